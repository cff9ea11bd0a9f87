#!/usr/bin/env python3
"""What 50 who watch the events of a busy gateway cost, in percent of one core.

  tests/status_page/viewers.py       OMNIGATE=PATH (or target/debug/omnigate), Python 3 alone, a minute

The gateway serves the same paced load all the time; spans of seconds with viewers and without take turns,
and its CPU time (/proc/PID/stat) is read around each. Prints each pair and the median of their differences,
and ends with 1 if that is more than 2 % of a core. Everything is on loopback.
"""

import http.client
import http.server
import os
import pathlib
import re
import selectors
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time

VIEWERS, PAIRS, SPAN, RATE, CALLERS = 50, 10, 3.0, 20, 4
MOST = 2.0
TICKS = os.sysconf("SC_CLK_TCK")
HERE = pathlib.Path(__file__).resolve().parent

CONFIG = """
state_dir = "state"
[server]
listen = ["127.0.0.1:0"]
[admin]
listen = "127.0.0.1:0"
[upstream]
base_url = "http://127.0.0.1:{port}"
[vault]
backend = "file"
path = "."
[credentials.org]
kind = "organization"
secret = "org.token"
[budgets.omni]
cold_start = "trust"
limit = 100000
profile = "burst"
[[routes]]
name = "all"
path = "/{{*rest}}"
credential = "org"
[telemetry]
log = "info"
format = "json"
"""


class Upstream(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        body = b'{"records":[]}'
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_):
        pass


def cpu(pid):
    """Seconds of CPU time that the process has used."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(") ", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def call(address, stop, served, failed):
    """Calls at its share of the pace, until `stop`."""
    connection = http.client.HTTPConnection(*address, timeout=10)
    due = time.monotonic()
    while not stop.is_set():
        due += CALLERS / RATE
        time.sleep(max(0.0, due - time.monotonic()))
        try:
            connection.request("GET", "/api/v1/labels")
            answer = connection.getresponse()
            answer.read()
            (served if answer.status == 200 else failed).append(1)
        except OSError:
            connection.close()
            failed.append(1)


class Viewers:
    """Those who watch, all read by one thread."""

    def __init__(self, address):
        self.selector = selectors.DefaultSelector()
        self.events, self.bytes, self.open = 0, 0, True
        for _ in range(VIEWERS):
            one = socket.create_connection(address, timeout=10)
            one.sendall(b"GET /-/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
            one.setblocking(False)
            self.selector.register(one, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self.read)
        self.thread.start()

    def read(self):
        while self.open:
            for key, _ in self.selector.select(0.1):
                piece = key.fileobj.recv(1 << 20)
                if not piece:
                    self.selector.unregister(key.fileobj)
                self.events += piece.count(b"event: status\n")
                self.bytes += len(piece)

    def close(self):
        self.open = False
        self.thread.join()
        for key in list(self.selector.get_map().values()):
            key.fileobj.close()
        self.selector.close()


def address_of(line):
    host, port = re.search(r'"address":"([0-9.]+):([0-9]+)"', line).groups()
    return host, int(port)


def start(binary, folder):
    """The gateway, where callers connect and where operators do."""
    gateway = subprocess.Popen(
        [binary, "serve", "-c", folder / "omnigate.toml"],
        env={}, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True,
    )
    addresses = {}
    for line in gateway.stderr:
        for message in ("serving", "admin"):
            if f'"message":"{message}"' in line:
                addresses[message] = address_of(line)
        if len(addresses) == 2:
            break
    else:
        sys.exit("the gateway did not start")
    # Its log must be read, or it would wait for us.
    threading.Thread(target=lambda: [None for _ in gateway.stderr], daemon=True).start()
    return gateway, addresses["serving"], addresses["admin"]


def measured(pid):
    """Percent of a core over a span."""
    before, began = cpu(pid), time.monotonic()
    time.sleep(SPAN)
    return 100 * (cpu(pid) - before) / (time.monotonic() - began)


def compare(gateway, admin):
    """Percent of a core in each span, without viewers and with them."""
    without, watched = [], []
    for nth in range(PAIRS):
        for arm in ((0, 1), (1, 0))[nth % 2]:
            if not arm:
                without.append(measured(gateway.pid))
                continue
            viewers = Viewers(admin)
            # Until all have their first event; that they came is not what is measured.
            give_up = time.monotonic() + 20
            while viewers.events < VIEWERS and time.monotonic() < give_up:
                time.sleep(0.05)
            events = viewers.events
            watched.append(measured(gateway.pid))
            seen, size = viewers.events - events, viewers.bytes // max(1, viewers.events)
            viewers.close()
            # Each saw an event a second: else it is not what was meant to be measured.
            if seen < VIEWERS * (SPAN - 2):
                sys.exit(f"only {seen} events were seen by {VIEWERS} viewers in {SPAN} s")
            time.sleep(0.2)
        print(f"pair {nth + 1}: {without[-1]:5.2f} % of a core without viewers, "
              f"{watched[-1]:5.2f} % with {VIEWERS} (events of {size} bytes)", flush=True)
    return without, watched


def main():
    binary = os.environ.get("OMNIGATE") or HERE.parent.parent / "target/debug/omnigate"
    binary = pathlib.Path(binary).resolve()
    if not binary.exists():
        print(f"{binary} is missing: cargo build, or set OMNIGATE", file=sys.stderr)
        return 69
    upstream = Server(("127.0.0.1", 0), Upstream)
    threading.Thread(target=upstream.serve_forever, daemon=True).start()
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        (folder / "omnigate.toml").write_text(CONFIG.format(port=upstream.server_address[1]))
        key = folder / "org.token"
        key.touch(0o600)
        key.write_text("omni_osk_" + "a" * 40)
        gateway, serving, admin = start(binary, folder)
        stop, served, failed = threading.Event(), [], []
        arguments = (serving, stop, served, failed)
        callers = [threading.Thread(target=call, args=arguments) for _ in range(CALLERS)]
        try:
            for caller in callers:
                caller.start()
            time.sleep(2)
            without, watched = compare(gateway, admin)
        finally:
            stop.set()
            for caller in callers:
                caller.join()
            gateway.send_signal(signal.SIGTERM)
            gateway.wait(20)
    more = statistics.median(b - a for a, b in zip(without, watched))
    print(f"{len(served)} calls served, {len(failed)} failed; spread without viewers "
          f"{min(without):.2f} to {max(without):.2f} %")
    print(f"{VIEWERS} viewers cost {more:.2f} % of a core (at most {MOST} %)")
    if failed or not served:
        print("calls failed, so nothing is shown", file=sys.stderr)
        return 1
    return 0 if more <= MOST else 1


if __name__ == "__main__":
    sys.exit(main())
