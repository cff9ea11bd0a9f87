#!/usr/bin/env python3
"""What a terminal shows of `omnigate exec`, by an emulator (pyte, of PyPI), and what Ctrl-C and Ctrl-Z do there.

    OMNIGATE=target/debug/omnigate tests/exec/terminal.py [--picture]

A stand-in for a gateway answers in this process; nothing leaves the machine. Ends with 1 if something does not hold.
"""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import sys
import termios
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pyte

OMNIGATE = os.path.abspath(os.environ["OMNIGATE"])
ROWS, COLUMNS = 12, 100
TOO_LONG = 60


class Gateway(BaseHTTPRequestHandler):
    """Says that it is a gateway; answers calls at once, but for those to /wait."""

    protocol_version = "HTTP/1.1"
    go_on = threading.Event()

    def do_GET(self):
        ours = self.path.startswith("/.well-known/")
        if self.path.startswith("/wait"):
            self.go_on.wait(TOO_LONG)
        body = json.dumps({"type": "urn:omnigate:problem:no-route"}).encode() if ours else b"{}"
        self.send_response(404 if ours else 200)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Server-Timing", "queue;dur=1200, upstream;dur=20")
        self.send_header("RateLimit-Policy", '"omni";q=60;w=60')
        self.send_header("RateLimit", '"omni";r=0;t=40')
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Server(ThreadingHTTPServer):
    def handle_error(self, *_):
        """A caller who leaves is no error here."""


def serve():
    server = Server(("127.0.0.1", 0), Gateway)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return f"http://127.0.0.1:{server.server_port}"


VIA = serve()


class Screen(pyte.Screen):
    """pyte's own leaves the cursor where it was when its row is gone; xterm takes the text along."""

    def resize(self, lines, columns):
        self.set_margins()
        gone = max(0, self.cursor.y - (lines - 1))
        old = dict(self.buffer)
        self.buffer.clear()
        self.buffer.update({y - gone: row for y, row in old.items() if 0 <= y - gone < lines})
        self.cursor.y -= gone
        x, y = self.cursor.x, self.cursor.y
        self.lines = max(lines, self.lines)
        super().resize(self.lines, columns)
        self.lines = lines
        self.cursor.x, self.cursor.y = min(x, columns - 1), y
        self.dirty.update(range(lines))


class Terminal:
    """A program on a terminal of its own, as a job of a shell: the emulator shows what somebody would see."""

    def __init__(self, arguments, rows=ROWS, columns=COLUMNS, env=None, before=b""):
        self.screen = Screen(columns, rows)
        self.stream = pyte.ByteStream(self.screen)
        self.raw = b""
        self.feed(before)
        self.pid, self.master = pty.fork()
        if self.pid == 0:
            fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
            clean = {"PATH": os.environ["PATH"], "TERM": "xterm", **(env or {})}
            os.execvpe(arguments[0], arguments, clean)
        self.status = None

    def feed(self, data):
        self.raw += data
        self.stream.feed(data)

    def read(self, seconds):
        ready, _, _ = select.select([self.master], [], [], seconds)
        if not ready:
            return
        try:
            data = os.read(self.master, 65536)
        except OSError:  # EIO: nobody has the other end any more
            data = b""
        if data:
            self.feed(data)
        elif self.status is None:
            _, self.status = os.waitpid(self.pid, 0)

    def until(self, what, condition):
        end = time.monotonic() + TOO_LONG
        while not condition():
            assert time.monotonic() < end, f"never: {what}\n{self.picture()}"
            assert self.status is None or condition(), f"ended before: {what}\n{self.picture()}"
            self.read(0.05)

    def shows(self, text):
        self.until(text, lambda: any(text in row for row in self.screen.display))

    def pinned(self, text):
        self.until(f"last row: {text}", lambda: text in self.screen.display[-1])

    def ends(self):
        end = time.monotonic() + TOO_LONG
        while self.status is None:
            assert time.monotonic() < end, f"never ended\n{self.picture()}"
            self.read(0.05)
        os.close(self.master)
        return self.status

    def type(self, data):
        os.write(self.master, data)

    def resize(self, rows, columns):
        # Right behind a frame, so that none is on its way that was drawn for the old size.
        frames = self.raw.count(b"omnigate 0")
        self.until("a frame", lambda: self.raw.count(b"omnigate 0") > frames)
        self.read(0.05)
        fcntl.ioctl(self.master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.screen.resize(rows, columns)

    def rows(self):
        return [row.rstrip() for row in self.screen.display]

    def picture(self):
        rule = "+" + "-" * self.screen.columns + "+"
        return "\n".join([rule, *(f"|{row}|" for row in self.screen.display), rule])


def omnigate(script, *more):
    return [OMNIGATE, "exec", "--via", VIA, *more, "--", "sh", "-c", script]


CALL = "curl -s -o /dev/null $OMNI_BASE_URL/call; "
WAIT = "curl -s -o /dev/null $OMNI_BASE_URL/wait & "


def output_is_whole_and_in_order():
    """Lines before, while and after the line is shown; a line that is begun before and ended after it comes."""
    Gateway.go_on.clear()
    script = ("for i in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15; do echo before $i; done; printf half; " + WAIT
              + "read go; for i in 1 2 3 4 5 6; do echo after $i; done; read go; wait; echo last")
    terminal = Terminal(omnigate(script))
    terminal.pinned("1 waiting")
    assert terminal.rows()[-2] == "half", terminal.picture()
    assert terminal.screen.cursor.x == 4 and terminal.screen.cursor.y == ROWS - 2, terminal.picture()
    assert [row for row in terminal.rows() if row.startswith("before")][-1] == "before 15"
    terminal.type(b"\n")
    terminal.shows("after 6")
    terminal.pinned("1 waiting")
    rows = terminal.rows()
    # The newline that was typed is echoed behind `half`.
    assert rows[-8:-1] == ["half", *(f"after {i}" for i in range(1, 7))] or rows[-8:-2] == [
        f"after {i}" for i in range(1, 7)], terminal.picture()
    picture = terminal.picture()
    Gateway.go_on.set()
    terminal.type(b"\n")
    assert terminal.ends() == 0
    rows = terminal.rows()
    assert not any("waiting" in row for row in rows), terminal.picture()
    at = rows.index("last")
    assert rows[at + 1].startswith("omnigate: 1 call in "), terminal.picture()
    assert terminal.screen.margins in (None, pyte.screens.Margins(0, ROWS - 1)), terminal.screen.margins
    return picture + "\nafterwards:\n" + terminal.picture()


def the_line_is_drawn_from_the_top_of_a_screen_too():
    Gateway.go_on.clear()
    terminal = Terminal(omnigate("echo first; " + CALL + WAIT + "read go; echo second; wait"), columns=150)
    terminal.pinned("2 calls: 1 answered, 1 waiting, their turn within about 4")
    assert terminal.rows()[0] == "first", terminal.picture()
    assert all(row == "" for row in terminal.rows()[1:-1]), terminal.picture()
    assert "1 sent in the last 60 s (limit 60)" in terminal.rows()[-1], terminal.picture()
    Gateway.go_on.set()
    terminal.type(b"\n")
    assert terminal.ends() == 0
    assert terminal.rows()[:3][0] == "first" and "second" in terminal.rows()[:3], terminal.picture()


def nothing_is_drawn_for_a_program_without_calls():
    terminal = Terminal(omnigate("echo quiet; sleep 1; echo done"))
    assert terminal.ends() == 0
    assert b"\x1b" not in terminal.raw, terminal.raw


def nor_on_a_dumb_terminal_or_a_tiny_one():
    for env, rows in [({"TERM": "dumb"}, ROWS), ({}, 4)]:
        terminal = Terminal(omnigate(CALL + "sleep 1; echo done"), env=env, rows=rows)
        assert terminal.ends() == 0
        assert b"\x1b" not in terminal.raw, terminal.raw


def without_colours_where_nobody_wants_them():
    terminal = Terminal(omnigate(CALL + "read go"), env={"NO_COLOR": "1"})
    terminal.pinned("1 answered")
    terminal.type(b"\n")
    assert terminal.ends() == 0
    assert b"\x1b[7m" not in terminal.raw


def a_resized_terminal_keeps_the_line_at_its_end():
    Gateway.go_on.clear()
    script = "for i in 1 2 3 4 5 6 7 8 9; do echo row $i; done; " + WAIT + "read go; echo more; read go"
    for rows, columns in [(ROWS - 3, COLUMNS), (ROWS + 6, COLUMNS), (ROWS, 60)]:
        terminal = Terminal(omnigate(script))
        terminal.pinned("1 waiting")
        terminal.resize(rows, columns)
        terminal.pinned("1 waiting")
        terminal.type(b"\n")
        terminal.shows("more")
        terminal.pinned("1 waiting")
        others = terminal.rows()[:-1]
        assert not any("waiting" in row for row in others), terminal.picture()
        kept = [row for row in others if row.startswith("row ")]
        expected = [f"row {i}" for i in range(1, 10)]
        assert kept and kept == expected[-len(kept):], terminal.picture()
        Gateway.go_on.set()
        terminal.type(b"\n")
        assert terminal.ends() == 0
        Gateway.go_on.clear()
    Gateway.go_on.set()


def a_program_that_takes_the_terminal_is_left_alone():
    Gateway.go_on.clear()
    script = WAIT + "read go; stty -icanon; echo raw; read go; stty icanon; echo lines; read go"
    terminal = Terminal(omnigate(script))
    terminal.pinned("1 waiting")
    terminal.type(b"\n")
    terminal.shows("raw")
    terminal.until("no line", lambda: "waiting" not in terminal.screen.display[-1])
    terminal.type(b"\n")
    terminal.shows("lines")
    terminal.pinned("1 waiting")
    Gateway.go_on.set()
    terminal.type(b"\n")
    assert terminal.ends() == 0


COUNTS = ("import os, signal, sys\n"
          "n = 0\n"
          "def told(*_):\n"
          "    global n; n += 1; os.write(1, b'told %d\\n' % n)\n"
          "signal.signal(signal.SIGINT, told)\n"
          "print('ready', os.isatty(0), os.isatty(1), os.isatty(2), flush=True)\n"
          "while n < int(sys.argv[1]): signal.pause()\n"
          "sys.exit(40 + n)\n")


def ctrl_c_is_the_programs():
    for times in [1, 2]:
        arguments = [OMNIGATE, "exec", "--via", VIA, "--", sys.executable, "-c", COUNTS, str(times)]
        terminal = Terminal(arguments)
        terminal.shows("ready True True True")
        for told in range(1, times + 1):
            terminal.type(b"\x03")
            terminal.shows(f"told {told}")
        status = terminal.ends()
        assert os.WIFEXITED(status) and os.WEXITSTATUS(status) == 40 + times, status
        assert f"told {times + 1}" not in "\n".join(terminal.rows()), terminal.picture()


def ctrl_c_ends_both_where_the_program_does_not_mind():
    terminal = Terminal(omnigate("echo ready; read go"))
    terminal.shows("ready")
    terminal.type(b"\x03")
    status = terminal.ends()
    assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGINT, status


def a_program_that_ignores_ctrl_c_goes_on():
    terminal = Terminal(omnigate("trap '' INT; echo ready; read go; exit 7"))
    terminal.shows("ready")
    terminal.type(b"\x03")
    terminal.shows("still runs")
    terminal.type(b"\x03\n")
    assert os.WEXITSTATUS(terminal.ends()) == 7


def ctrl_z_stops_both_and_leaves_the_terminal_as_it_was():
    Gateway.go_on.clear()
    inner = " ".join(f"'{word}'" for word in omnigate(WAIT + "echo ready; read go; echo on; read go"))
    terminal = Terminal(["bash", "--norc", "-i"], env={"PS1": "$ "})
    terminal.shows("$")
    terminal.type(inner.encode() + b"\n")
    terminal.pinned("1 waiting")
    terminal.type(b"\x1a")
    terminal.shows("Stopped")
    assert "waiting" not in "\n".join(terminal.rows()), terminal.picture()
    assert terminal.screen.margins in (None, pyte.screens.Margins(0, ROWS - 1)), terminal.screen.margins
    terminal.type(b"fg\n")
    terminal.pinned("1 waiting")
    terminal.type(b"\n")
    terminal.shows("on")
    Gateway.go_on.set()
    terminal.type(b"\n")
    terminal.shows("omnigate: 1 call in ")
    terminal.type(b"exit 3\n")
    assert os.WEXITSTATUS(terminal.ends()) == 3


def main():
    scenes = [output_is_whole_and_in_order, the_line_is_drawn_from_the_top_of_a_screen_too,
              nothing_is_drawn_for_a_program_without_calls, nor_on_a_dumb_terminal_or_a_tiny_one,
              without_colours_where_nobody_wants_them, a_resized_terminal_keeps_the_line_at_its_end,
              a_program_that_takes_the_terminal_is_left_alone, ctrl_c_is_the_programs,
              ctrl_c_ends_both_where_the_program_does_not_mind, a_program_that_ignores_ctrl_c_goes_on,
              ctrl_z_stops_both_and_leaves_the_terminal_as_it_was]
    failed = 0
    for scene in scenes:
        Gateway.go_on.set()
        try:
            picture = scene()
            print(f"ok    {scene.__name__}", flush=True)
            if picture and "--picture" in sys.argv:
                print(picture)
        except AssertionError as error:
            failed += 1
            print(f"FAIL  {scene.__name__}: {error}", flush=True)
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
