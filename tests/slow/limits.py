"""One connection for each stated limit: the seconds after which the gateway ended it."""

import asyncio
import socket
import time

from attack import BIG, GET, HOST, POST


async def ended(port, first, each=b"", every=1.0, at_most=80.0):
    """How long a connection lives that sends `first` and then `each` again and again, and what it was told."""
    reader, writer = await asyncio.open_connection(HOST, port)
    since, told = time.monotonic(), b""
    writer.write(first)

    async def feed():
        while each:
            await asyncio.sleep(every)
            writer.write(each)

    feeding = asyncio.create_task(feed())
    try:
        async with asyncio.timeout(at_most):
            while some := await reader.read(65536):
                told += some
    except TimeoutError:
        return None, told
    except OSError:
        pass
    finally:
        feeding.cancel()
        writer.transport.abort()
    return time.monotonic() - since, told


async def stalled(port, seconds):
    """How many bytes of 10 MB come if nothing is read for `seconds` after the first few."""
    # Little room on our side, so that most of it has to wait on the gateway's.
    one = socket.socket()
    one.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
    one.setblocking(False)
    await asyncio.get_running_loop().sock_connect(one, (HOST, port))
    reader, writer = await asyncio.open_connection(sock=one, limit=4096)
    try:
        writer.write(BIG)
        await reader.readexactly(1000)
        writer.transport.pause_reading()
        await asyncio.sleep(seconds)
        writer.transport.resume_reading()
        got = 1000
        async with asyncio.timeout(20):
            while some := await reader.read(65536):
                got += len(some)
                if got >= 10_000_000:
                    break
    except (OSError, TimeoutError):
        pass
    finally:
        writer.transport.abort()
    return got


async def measured(port):
    """Rows of (what, stated, found, whether it holds)."""
    whole = POST.replace(b"100000", b"12000")

    async def ends(what, limit, *talk, **how):
        seconds, _ = await ended(port, *talk, **how)
        found = "never" if seconds is None else f"{seconds:.1f} s"
        return what, f"{limit} s", found, seconds is not None and limit - 1 <= seconds <= limit + 5

    async def passes(what, first, each, every):
        _, told = await ended(port, first, each, every, at_most=50)
        return what, "200", told[9:12].decode() or "nothing", told[9:12] == b"200"

    async def write(what, seconds, whole):
        got = await stalled(port, seconds)
        return what, "all" if whole else "cut", f"{got} bytes", (got >= 10_000_000) == whole

    return await asyncio.gather(
        ends("first byte", 10, b""),
        ends("half a head", 10, GET[:-4]),
        ends("a head, a byte a second", 10, GET[:-4] + b"\r\nX: ", b"x"),
        ends("a body that stops", 15, POST + b"x"),
        ends("a body that never starts", 15, POST),
        ends("a body, a byte a second", 30, POST, b"x"),
        ends("idle after an answer", 60, GET),
        passes("a body, 300 bytes a second", whole, b"x" * 300, 1.0),
        write("reads nothing for 20 s", 20, True),
        write("reads nothing for 36 s", 36, False),
    )
