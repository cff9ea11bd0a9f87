"""A gateway of its own, a receiver for its spans, and a caller."""

import asyncio
import json
import os
import re
import socket
import sys
import tempfile
import time
from pathlib import Path

import omni
import spans

HERE = Path(__file__).parent
# What is ours to set, and nobody else's.
NOT_OURS = ("OTEL_", "OMNIGATE_", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "RUST_LOG")


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def clean_environment():
    return {name: value for name, value in os.environ.items() if not name.upper().startswith(NOT_OURS)}


class Gateway:
    """`otlp`: the value of the key in the config, or None for none."""

    def __init__(self, omnigate, work, omni_port, otlp=None, env=None, log="info", config=None):
        self.omnigate, self.omni_port, self.otlp, self.env, self.log = omnigate, omni_port, otlp, env or {}, log
        self.config = config or HERE / "omnigate.toml"
        self.work = Path(tempfile.mkdtemp(dir=work))
        self.process = None

    async def start(self):
        self.port, self.admin = free_port(), free_port()
        filled = self.config.read_text()
        said = {"PORT": self.port, "ADMIN": self.admin, "OMNI": self.omni_port, "LOG": self.log, "OTLP": f"otlp = {self.otlp}" if self.otlp else ""}
        for word, value in said.items():
            filled = filled.replace(f"@{word}@", str(value))
        (self.work / "omnigate.toml").write_text(filled)
        self.stderr = open(self.work / "log", "wb")
        self.process = await asyncio.create_subprocess_exec(
            self.omnigate, "serve", "-c", self.work / "omnigate.toml", cwd=self.work, stderr=self.stderr,
            stdout=self.stderr, env=clean_environment() | {"OMNIGATE_TEST_KEY": omni.KEY} | self.env,
        )  # fmt: skip
        for _ in range(200):
            if self.process.returncode is not None:
                break
            try:
                if (await call(self.admin, "GET", "/readyz")).status == 200:
                    return self
            except OSError:
                pass
            await asyncio.sleep(0.05)
        await self.end()
        raise RuntimeError("the gateway does not start: " + self.said()[-2000:])

    async def __aenter__(self):
        return await self.start()

    async def __aexit__(self, *_):
        await self.end()

    def said(self):
        return (self.work / "log").read_text(errors="replace")

    def cpu(self):
        """Seconds of CPU that it has used in all, by its own clock."""
        return time.clock_gettime((~self.process.pid << 3) | 2)

    def memory(self):
        """Resident, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    async def page(self, path):
        return (await call(self.admin, "GET", path)).body.decode()

    async def counted(self, name):
        """The values of a metric's series, by their labels."""
        page = await self.page("/metrics")
        found = re.findall(rf"^{re.escape(name)}(\{{[^}}]*\}})? (\S+)", page, re.M)
        return {labels: float(value) for labels, value in found}

    async def end(self, within=20):
        """Tells it to end; gives the seconds that it took."""
        since = time.monotonic()
        if self.process is not None and self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), within)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()
        return time.monotonic() - since


class Receiver:
    """One of the two receivers, as a program of its own."""

    def __init__(self, *command):
        self.command, self.lines, self.more = command, [], asyncio.Event()

    async def start(self):
        self.process = await asyncio.create_subprocess_exec(
            *self.command, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, limit=1 << 28,
        )  # fmt: skip
        self.reading = asyncio.create_task(self.read())
        await self.until(lambda: self.lines, "the receiver does not start")
        self.port = self.lines.pop(0)["port"]
        return self

    async def read(self):
        while line := await self.process.stdout.readline():
            self.lines.append(json.loads(line))
            self.more.set()

    async def until(self, holds, or_else, seconds=15):
        """Waits for something of what arrived to hold."""
        end = time.monotonic() + seconds
        while not (found := holds()):
            self.more.clear()
            try:
                await asyncio.wait_for(self.more.wait(), max(0, end - time.monotonic()))
            except TimeoutError:
                if found := holds():
                    return found
                raise AssertionError(or_else) from None
        return found

    def spans(self):
        return [span for line in self.lines if "message" in line for span in spans.spans_of(line["message"])]

    def requests(self):
        return [line for line in self.lines if "path" in line]

    async def be(self, mode):
        """Has it be in this trouble from now on."""
        known = len(self.lines)
        self.process.stdin.write(mode.encode() + b"\n")
        said = lambda: [line for line in self.lines[known:] if "requests" in line]
        return (await self.until(said, f"the receiver does not become {mode}"))[-1]

    async def end(self):
        self.process.stdin.close()
        try:
            await asyncio.wait_for(self.process.wait(), 5)
        except TimeoutError:
            self.process.kill()
            await self.process.wait()
        await self.reading


def theirs(folder):
    return Receiver("node", HERE / "receiver.cjs", folder)


def ours():
    return Receiver(sys.executable, HERE / "receiver.py")


class Answer:
    def __init__(self, status, fields, body):
        self.status, self.fields, self.body = status, fields, body


async def read_answer(reader, method):
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
    fields = dict((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line))
    body = b""
    status = int(head[0].split(" ")[1])
    if method == "HEAD" or status in (204, 304):
        pass
    elif "chunked" in fields.get("transfer-encoding", ""):
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    elif "content-length" in fields:
        body = await reader.readexactly(int(fields["content-length"]))
    else:
        body = await reader.read()
    return Answer(status, fields, body)


async def call(port, method, target, fields=(), body=b"", seconds=30):
    """One call over a connection of its own. A name may stand in `fields` several times."""
    writer = None
    try:
        async with asyncio.timeout(seconds):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 24)
            lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}", "Connection: close"]
            lines += [f"{name}: {value}" for name, value in fields]
            if body or method in ("POST", "PUT", "PATCH"):
                lines.append(f"Content-Length: {len(body)}")
            writer.write("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
            return await read_answer(reader, method)
    finally:
        if writer is not None:
            writer.transport.abort()


async def begun(port, method, target, fields=()):
    """A call that is sent and not waited for; end its writer to leave."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    lines = [f"{method} {target} HTTP/1.1", f"Host: 127.0.0.1:{port}"] + [f"{name}: {value}" for name, value in fields]
    writer.write("\r\n".join(lines).encode() + b"\r\n\r\n")
    await writer.drain()
    return reader, writer
