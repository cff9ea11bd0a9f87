"""Stands for Omni: answers every request, `/big` with 10 MB. Prints its port, runs until it is ended."""

import asyncio
import socket

PIECE = bytes(50_000)
SMALL = b'{"records":[]}'


async def take_body(reader, head):
    """Reads what the head says that follows."""
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:] if b": " in line)
    if b"chunked" in fields.get(b"transfer-encoding", b""):
        while (size := int(await reader.readline(), 16)) > 0:
            await reader.readexactly(size + 2)
        await reader.readline()
    else:
        await reader.readexactly(int(fields.get(b"content-length", 0)))


async def serve(reader, writer):
    try:
        while True:
            head = await reader.readuntil(b"\r\n\r\n")
            await take_body(reader, head)
            piece, pieces = (PIECE, 200) if b"/big" in head.split(b"\r\n", 1)[0] else (SMALL, 1)
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n")
            writer.write(b"Content-Length: %d\r\n\r\n" % (len(piece) * pieces))
            # By pieces: a thousand slow readers shall not cost us their 10 MB each.
            for _ in range(pieces):
                writer.write(piece)
                await writer.drain()
    except (OSError, EOFError, ValueError, asyncio.IncompleteReadError):
        pass
    finally:
        writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=4096)
    # As a server far away, it has a little on the way and not megabytes for each reader.
    server.sockets[0].setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


asyncio.run(main())
