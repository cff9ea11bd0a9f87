"""Makes calls as they are ordered, over connections that stay open. Reads orders from stdin, a line each, and
answers with a line of JSON:

    steady PORT RATE SECONDS    so many a second, each when its time comes, whatever became of the others
    flood PORT CONNECTIONS SECONDS    as many as there is room for
"""

import asyncio
import json
import sys
import time

ASK = b"GET /api/v1/documents HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"


class Connection(asyncio.Protocol):
    def __init__(self, ended):
        self.ended, self.held, self.since, self.open, self.why = ended, b"", 0.0, True, ""

    def connection_made(self, transport):
        self.transport = transport

    def ask(self, since):
        self.since = since
        self.transport.write(ASK)

    def data_received(self, piece):
        self.held += piece
        at = self.held.find(b"\r\n\r\n")
        if at < 0:
            return
        head = self.held[:at].lower()
        length = int(head.split(b"content-length:", 1)[1].split(b"\r\n", 1)[0])
        if len(self.held) >= at + 4 + length:
            good, self.why, self.held = self.held.startswith(b"HTTP/1.1 200"), self.held[:400].decode("latin1"), b""
            self.ended(self, good)

    def connection_lost(self, error):
        self.open, self.why = False, f"the connection ended: {error!r}"
        self.ended(self, None)


class Load:
    def __init__(self):
        self.kept = {}

    async def free(self, port, count):
        pool = [one for one in self.kept.get(port, []) if one.open]
        while len(pool) < count:
            _, one = await asyncio.get_running_loop().create_connection(lambda: Connection(lambda *_: None), "127.0.0.1", port)
            pool.append(one)
        self.kept[port] = pool
        return pool[:count]

    async def steady(self, port, rate, seconds):
        took, failed, why = [], 0, []
        free, late = await self.free(port, 16), []
        total, done = int(rate * seconds), asyncio.Event()

        def ended(one, good):
            nonlocal failed
            if good is None and not one.since:
                return
            if good:
                took.append(time.perf_counter() - one.since)
            else:
                failed += 1
                why.append(one.why)
            one.since = 0.0
            if len(took) + failed >= total:
                done.set()
            elif good is not None and late:
                one.ask(late.pop(0))
            elif good is not None:
                free.append(one)

        for one in free:
            one.ended = ended
        begun = time.perf_counter()
        for number in range(total):
            at = begun + number / rate
            if (left := at - time.perf_counter()) > 0:
                await asyncio.sleep(left)
            # Counted from when it was due, not from when a connection was free; each in its turn, lest the
            # gateway ends one that was not used for a minute.
            free.pop(0).ask(at) if free else late.append(at)
        try:
            await asyncio.wait_for(done.wait(), 10)
        except TimeoutError:
            why.append(f"{total - len(took) - failed} have no answer")
            failed = total - len(took)
        took.sort()
        return {"made": len(took), "failed": failed, "took": [round(one * 1e6) for one in took], "why": why[:3]}

    async def flood(self, port, count, seconds):
        made, failed, why = 0, 0, []
        end = time.perf_counter() + seconds
        under_way, done = set(), asyncio.Event()

        def ended(one, good):
            nonlocal made, failed
            if one not in under_way:
                return
            made, failed = made + bool(good), failed + (not good)
            if not good:
                why.append(one.why)
            if good is not None and time.perf_counter() < end:
                one.ask(1.0)
                return
            under_way.discard(one)
            if not under_way:
                done.set()

        for one in await self.free(port, count):
            one.ended = ended
            under_way.add(one)
            one.ask(1.0)
        try:
            await asyncio.wait_for(done.wait(), seconds + 10)
        except TimeoutError:
            failed += len(under_way)
            why.append(f"{len(under_way)} have no answer")
        return {"made": made, "failed": failed, "why": why[:3]}


async def main():
    orders, load = asyncio.StreamReader(), Load()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        what, port, many, seconds = line.decode().split()
        said = await getattr(load, what)(int(port), int(many), float(seconds))
        print(json.dumps(said), flush=True)


asyncio.run(main())
