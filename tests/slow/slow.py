"""Sets slow and greedy clients on the gateway, and sees what ordinary calls, memory and descriptors make of it.

    slow.py WORK OMNIGATE [NAME...]

Ends with 1 if a bound does not hold.
"""

import asyncio
import json
import os
import shutil
import signal
import socket
import statistics
import sys
import tempfile
import time
from collections import Counter
from contextlib import asynccontextmanager
from pathlib import Path

import limits

HERE = Path(__file__).parent
# The bounds. Those of time are the gateway's own as long as the machine keeps up: where the same call,
# made of the origin itself in the same seconds, is slow or fails too, the gateway may be TIMES as slow,
# and fail as often.
MEDIAN_S = 0.1
TIMES = 3
MEMORY_MIB = 200
HALF_OPEN_KIB = 20
# Descriptors that may be open afterwards besides those of the start: connections kept to upstream, the probers'.
MORE_FILES = 40

SLOWHTTPTEST = ["-c", "1000", "-r", "200", "-l", "25", "-p", "5"]
broken = []
# Why ordinary calls failed.
reasons = Counter()


def must(holds, what):
    if not holds:
        broken.append(what)


class Gateway:
    """A gateway of its own, under a limit of open files."""

    async def start(self, omnigate, work, origin, files):
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port, self.origin = free.getsockname()[1], origin
        config = (HERE / "omnigate.toml").read_text()
        config = config.replace("@PORT@", str(self.port)).replace("@OMNI@", str(origin))
        (work / "omnigate.toml").write_text(config)
        self.process = await asyncio.create_subprocess_exec(
            "prlimit", f"--nofile={files}:{files}", omnigate, "serve", "-c", work / "omnigate.toml",
            env=os.environ | {"OMNIGATE_TEST_KEY": "omni_osk_" + "0" * 56}, cwd=work,
        )  # fmt: skip
        for _ in range(100):
            if await call(self.port) is not None:
                return self
            await asyncio.sleep(0.1)
        sys.exit("the gateway does not start")

    def memory(self):
        """Resident, in MiB."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        return int(status.split("VmRSS:")[1].split()[0]) / 1024

    def files(self):
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    async def end(self):
        if self.process.returncode is None:
            self.process.terminate()
            try:
                await asyncio.wait_for(self.process.wait(), 10)
            except TimeoutError:
                self.process.kill()
                await self.process.wait()


async def ask(reader, writer):
    writer.write(b"GET /api/v1/documents HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
    await reader.readexactly(length)
    return head.startswith(b"HTTP/1.1 200")


async def call(port, kept=None):
    """The seconds that an ordinary call takes, or None if it fails; `kept`: over the connection in there."""
    since, writer = time.monotonic(), None
    try:
        async with asyncio.timeout(10):
            pair = (kept and kept.pop("pair", None)) or await asyncio.open_connection("127.0.0.1", port)
            reader, writer = pair
            good = await ask(reader, writer)
            if kept is not None:
                kept["pair"], writer = pair, None
            reasons["not 200"] += not good
            return time.monotonic() - since if good else None
    except (OSError, EOFError, IndexError, ValueError, TimeoutError) as error:
        reasons[type(error).__name__] += 1
        return None
    finally:
        if writer is not None:
            writer.transport.abort()


class Watch:
    """Makes an ordinary call each way every 250 ms, and looks at memory and descriptors."""

    def __init__(self, gateway):
        self.gateway, self.calls = gateway, {"fresh": [], "kept": [], "direct": []}
        self.memory, self.files, self.last_files = 0.0, 0, 0

    async def run(self):
        kept, direct = {}, {}
        while True:
            next_one = asyncio.create_task(asyncio.sleep(0.25))
            port = self.gateway.port
            # The control: the same call, made of the origin itself.
            took = await asyncio.gather(call(port), call(port, kept), call(self.gateway.origin, direct))
            for way, one in zip(("fresh", "kept", "direct"), took, strict=True):
                self.calls[way].append(one)
            self.memory = max(self.memory, self.gateway.memory())
            self.last_files = self.gateway.files()
            self.files = max(self.files, self.last_files)
            await next_one

    def said(self, way):
        """Median and longest in milliseconds, and how many failed."""
        good = [one for one in self.calls[way] if one is not None]
        failed = len(self.calls[way]) - len(good)
        return (statistics.median(good) * 1000, max(good) * 1000, failed) if good else (float("inf"), float("inf"), failed)


async def watched(gateway, attack):
    watch = Watch(gateway)
    watching = asyncio.create_task(watch.run())
    try:
        said = await attack
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
    return watch, said


async def program(*command, seconds):
    """Runs a command, gives what it prints; none outlives `seconds`."""
    one = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT)
    try:
        out, _ = await asyncio.wait_for(one.communicate(), seconds)
        return out.decode(errors="replace")
    except TimeoutError:
        return ""
    finally:
        if one.returncode is None:
            one.kill()
            await one.wait()


async def ours(name, port, seconds):
    out = await program(sys.executable, HERE / "attack.py", name, str(port), str(seconds), seconds=seconds + 20)
    return json.loads(out.splitlines()[-1]) if out.strip() else {}


def without_referer(work):
    """slowhttptest calls itself a browser and names a page: refused at once, it would prove nothing. Its copy does not."""
    said, instead = b"Referer: TESTING_PURPOSES_ONLY", b"X-Omnigate: TESTING_PURPOSES_O"
    copy, it = work / "slowhttptest", Path(shutil.which("slowhttptest")).read_bytes()
    if said not in it:
        sys.exit("this slowhttptest does not say what the gateway refuses; see without_referer")
    copy.write_bytes(it.replace(said, instead))
    copy.chmod(0o700)
    return copy


async def theirs(copy, *options):
    out = await program(copy, *SLOWHTTPTEST, *options, seconds=60)
    must("Exit status" in out or "exit status" in out.lower(), f"slowhttptest {options[0]} did not come to its end")
    return {}


def row(name, watch, before, after, said):
    cells = [f"{p50:6.1f} {most:7.0f} {failed:5d}" for p50, most, failed in map(watch.said, ("fresh", "kept", "direct"))]
    memory = f"{before[0]:6.0f} {watch.memory:5.0f} {after[0]:5.0f}"
    files = f"{before[1]:6d} {watch.files:5d} {after[1]:5d}"
    ended = f"{said['ended']} of {said['opened']} ended" if said.get("opened") else ""
    if "first_end" in said:
        ended += f" after {said['first_end']:.1f} to {said['last_end']:.1f} s"
    if said.get("sent"):
        ended += f", {said['sent']} frames"
    print(f"  {name:22} {' '.join(cells)}  {memory} {files}  {ended}", flush=True)


async def tried(gateway, name, attack):
    """Everything that one attack is held to; gives what the attackers saw, and the memory that it took in KiB."""
    before = gateway.memory(), gateway.files()
    reasons.clear()
    watch, said = await watched(gateway, attack)
    for _ in range(80):
        if gateway.files() <= before[1] + MORE_FILES:
            break
        await asyncio.sleep(0.25)
    after = gateway.memory(), gateway.files()
    row(name, watch, before, after, said)
    direct, _, direct_failed = watch.said("direct")
    most = max(MEDIAN_S * 1000, direct * TIMES)
    must(len(watch.calls["direct"]) >= 8, f"{name}: too few ordinary calls were made to say anything")
    must(direct < float("inf"), f"{name}: the origin itself does not answer")
    for way in ("fresh", "kept"):
        median, _, failed = watch.said(way)
        must(median <= most, f"{name}: an ordinary call ({way}) takes {median:.0f} ms, of the origin itself {direct:.0f}")
        must(failed <= direct_failed, f"{name}: {failed} ordinary calls ({way}) failed; all in all {dict(+reasons)}")
    must(watch.memory <= MEMORY_MIB, f"{name}: {watch.memory:.0f} MiB of memory")
    must(after[1] <= before[1] + MORE_FILES, f"{name}: {after[1]} descriptors afterwards, {before[1]} before")
    if name == "never-read":
        # They are all still there, and none of them sees that the gateway has closed.
        held = watch.last_files - before[1]
        must(held <= MORE_FILES, f"{name}: {held} connections are still held after 30 s and 10 more")
    return said, (watch.memory - before[0]) * 1024


async def attacks(begun, asked_for, copy):
    """Each attack that is asked for, on a fresh gateway that `begun` gives."""
    print(f"  {'':22} {'fresh connection, ms':>20} {'kept connection, ms':>20} {'direct to origin, ms':>20}  {'MiB resident':>17}  {'descriptors':>17}")
    head = f"{'p50':>6} {'max':>7} {'fail':>5} " * 3 + f" {'before':>6} {'most':>5} {'after':>5}" * 2
    print(f"  {'':22} {head}", flush=True)
    if asked_for("nobody"):
        async with begun() as gateway:
            await tried(gateway, "nobody", asyncio.sleep(5, {}))

    for name, seconds in {
        "half-open-heads": 20, "silent": 20, "idle": 25, "never-read": 40, "slow-uploads": 45,
        "h2-rapid-reset": 10, "h2-ping": 10, "h2-settings": 10, "h2-continuation": 10, "h2-empty-data": 10,
    }.items():  # fmt: skip
        if not asked_for(name):
            continue
        async with begun() as gateway:
            said, took = await tried(gateway, name, ours(name, gateway.port, seconds))
        opened, ended = said.get("opened", 0), said.get("ended", 0)
        must(opened > 0, f"{name}: no connection was opened")
        if name in ("half-open-heads", "silent"):
            must(took / 5000 <= HALF_OPEN_KIB, f"{name}: {took / 5000:.1f} KiB of memory for each connection")
        if name in ("half-open-heads", "silent", "slow-uploads"):
            must(ended == opened, f"{name}: {opened - ended} of {opened} connections were not ended")

    for name, path, options in (
        ("slowhttptest -H", "documents", ["-H", "-i", "5"]),
        ("slowhttptest -B", "documents", ["-B", "-i", "5", "-s", "8192"]),
        ("slowhttptest -R", "documents", ["-R", "-a", "5", "-b", "2000"]),
        ("slowhttptest -X", "big", ["-X", "-w", "1", "-y", "512", "-n", "1", "-z", "5"]),
    ):
        if not asked_for(name):
            continue
        async with begun() as gateway:
            url = f"http://127.0.0.1:{gateway.port}/api/v1/{path}"
            await tried(gateway, name, theirs(copy, *options, "-u", url))


async def stated(gateway):
    """Each limit that is stated, by the clock."""
    print(f"\n  {'ended by the gateway':28} stated  found")
    for what, limit, found, holds in await limits.measured(gateway.port):
        print(f"  {what:28} {limit:>6}  {found}{'' if holds else '   NOT SO'}")
        must(holds, f"{what}: {found}, stated {limit}")


async def out_of_files(gateway):
    """More connections than there are descriptors: it lives, and serves again when they are gone."""
    attack = asyncio.create_task(ours("more-than-files", gateway.port, 5))
    await asyncio.sleep(3)
    most = gateway.files()
    said = await attack
    since, took = time.monotonic(), None
    while took is None and time.monotonic() - since < 5:
        took = await call(gateway.port)
    found = "never" if took is None else f"after {time.monotonic() - since:.2f} s"
    print(f"\n  64 descriptors, {said.get('opened')} connections: {most} in use, served again {found}")
    must(took is not None, "out of descriptors, it does not recover")
    # It keeps 32 of them for upstream and the rest, so no more than 32 connections are let in.
    must(44 <= most <= 64, f"of 64 descriptors {most} were in use: not all that connections may have")


async def main():
    # Who ends this has everything ended that was started.
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    work, omnigate = Path(sys.argv[1]), sys.argv[2]
    origin = await asyncio.create_subprocess_exec(sys.executable, HERE / "origin.py", stdout=asyncio.subprocess.PIPE)
    try:
        port = int(await origin.stdout.readline())

        @asynccontextmanager
        async def begun(files=int(os.environ["FILES"])):
            gateway = Gateway()
            try:
                yield await gateway.start(omnigate, Path(tempfile.mkdtemp(dir=work)), port, files)
                must(gateway.process.returncode is None, "the gateway ended by itself")
            finally:
                await gateway.end()

        names = sys.argv[3:]

        def asked_for(name):
            return not names or name in names

        await attacks(begun, asked_for, without_referer(work))
        if asked_for("limits"):
            async with begun() as gateway:
                await stated(gateway)
        if asked_for("more-than-files"):
            async with begun(64) as gateway:
                await out_of_files(gateway)
    finally:
        origin.terminate()
        await origin.wait()
    if broken:
        print(f"\ntests/slow: {len(broken)} bounds do not hold:\n- " + "\n- ".join(broken), file=sys.stderr)
        return 1
    print("\ntests/slow: all bounds hold.")
    return 0


sys.exit(asyncio.run(main()))
