"""Stands for Omni: takes calls with the right key, refuses as its firewall does when told to, and notes what came.

As a program it prints its port and answers until it is ended, and notes nothing.
"""

import asyncio
import json
import time

KEY = "omni_osk_" + "Tr4ceCanaryOfTheKey" + "0" * 31 + "aB3dE9"
BLOCKED = b"<html>\r\n<head><title>429 Too Many Requests</title></head>\r\n</html>\r\n"
TRACE_ID = "Root=1-6a000000-{:024x}"


class Call:
    def __init__(self, method, target, fields):
        self.method, self.target, self.fields = method, target, fields
        self.at, self.trace_id, self.status = time.time_ns(), None, None

    def all(self, name):
        return [value for one, value in self.fields if one == name]


class Omni:
    """`refuse`: so many of the next calls; `fail`: the next call gets this status; `cut`: the next answer ends in
    its middle; `says`: the next answer's id; `hold`: paths with this word are answered when `go` is set."""

    def __init__(self, notes=True):
        self.calls, self.refuse, self.fail, self.hold = [], 0, None, None
        self.cut, self.says = False, None
        self.go = asyncio.Event()
        self.notes, self.count = notes, 0

    async def start(self):
        self.server = await asyncio.start_server(self.serve, "127.0.0.1", 0, backlog=4096)
        self.port = self.server.sockets[0].getsockname()[1]
        return self

    async def serve(self, reader, writer):
        try:
            while True:
                await self.one(reader, writer)
        except (OSError, EOFError, ValueError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.transport.abort()

    async def one(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1").split("\r\n")
        method, target, _ = head[0].split(" ", 2)
        fields = [(name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in head[1:] if line)]
        named = dict(fields)
        if "chunked" in named.get("transfer-encoding", ""):
            while (size := int(await reader.readline(), 16)) > 0:
                await reader.readexactly(size + 2)
            await reader.readline()
        else:
            await reader.readexactly(int(named.get("content-length", 0)))
        call = Call(method, target, fields)
        if self.notes:
            self.calls.append(call)
        self.count += 1
        if self.refuse > 0:
            self.refuse, call.status = self.refuse - 1, 429
            # From the edge: no field of the application's.
            writer.write(b"HTTP/1.1 429 Too Many Requests\r\nServer: awselb/2.0\r\nContent-Type: text/html\r\nX-Omni-Waf-Action: block\r\n")
            writer.write(b"Retry-After: 1\r\nContent-Length: %d\r\n\r\n" % len(BLOCKED) + BLOCKED)
            await writer.drain()
            return
        if self.hold and self.hold in target:
            await self.go.wait()
        status, self.fail = self.fail or 200, None
        if named.get("authorization") != f"Bearer {KEY}":
            status = 403
        body = json.dumps({"records": [], "pageInfo": {"hasNextPage": False}} if status == 200 else {"detail": "No", "status": status}).encode()
        call.status, call.trace_id = status, self.says or TRACE_ID.format(self.count)
        self.says = None
        writer.write(b"HTTP/1.1 %d Said\r\nContent-Type: application/json; charset=utf-8\r\nCache-Control: no-cache, no-store\r\n" % status)
        cut, self.cut = self.cut, False
        writer.write(f"x-trace-id: {call.trace_id}\r\nContent-Length: {len(body) + 1000 * cut}\r\n\r\n".encode())
        writer.write(b"" if method == "HEAD" else body)
        await writer.drain()
        if cut:
            await asyncio.sleep(0.1)
            raise EOFError


async def main():
    omni = await Omni(notes=False).start()
    print(omni.port, flush=True)
    await omni.server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main())
