"""An OTLP receiver on the published schema that can be in every kind of trouble.

Says its port, then one JSON line for each request: its path, its fields, how long it was, what it was answered,
and its spans. Reads from stdin what trouble to be in, a line each:

    ok               answers 200
    slow SECONDS     answers 200, but late
    status N [FIELD: VALUE]   answers this status
    hole             reads and never answers
    deaf             does not even read
    partial N        answers 200, and that it rejected N spans
    close            ends the connection in the middle of its answer
    garbage          answers what is no HTTP
    nonsense         answers 200 with a body that is no protobuf
    huge             answers 200 with a body that does not end
    quiet            `ok`, and says nothing of what spans they were
    down             takes no connections, until the next line

Ends when stdin does.
"""

import asyncio
import gzip
import json
import sys

from google.protobuf.json_format import MessageToDict
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse

state = {"mode": ["ok"], "requests": 0, "bytes": 0}
open_ones = set()


def say(line):
    print(json.dumps(line), flush=True)


def read(fields, body):
    """What a request brings, or what is wrong with it."""
    if fields.get("content-encoding") == "gzip":
        body = gzip.decompress(body)
    message = ExportTraceServiceRequest.FromString(body)
    again = message.SerializeToString(deterministic=True)
    # Fields that the schema has not are kept, and would come back.
    known = ExportTraceServiceRequest.FromString(body)
    known.DiscardUnknownFields()
    if len(known.SerializeToString(deterministic=True)) != len(again):
        raise ValueError("fields that the schema does not have")
    return message, body


async def one(reader, writer):
    """Answers one request; says whether the connection goes on."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin1")
    lines = head.split("\r\n")
    method, path, _ = lines[0].split(" ", 2)
    fields = dict((name.lower(), value.strip()) for name, _, value in (line.partition(":") for line in lines[1:] if line))
    if "chunked" in fields.get("transfer-encoding", ""):
        body = b""
        while size := int(await reader.readline(), 16):
            body += (await reader.readexactly(size + 2))[:-2]
        await reader.readline()
    else:
        body = await reader.readexactly(int(fields.get("content-length", 0)))
    mode, *words = state["mode"]
    state["requests"] += 1
    state["bytes"] += len(body)
    told = {"method": method, "path": path, "fields": fields, "length": len(body), "mode": mode}
    if mode != "quiet":
        try:
            message, plain = read(fields, body)
            told["message"] = MessageToDict(message)
            # For looking for what must not be in there.
            told["raw"] = plain.hex()
        except Exception as error:
            told["unreadable"] = repr(error)
    say(told)

    answer, status, more = ExportTraceServiceResponse(), 200, []
    if mode == "hole":
        await asyncio.sleep(3600)
    elif mode == "slow":
        await asyncio.sleep(float(words[0]))
    elif mode == "status":
        status, more = int(words[0]), [" ".join(words[1:])] if words[1:] else []
    elif mode == "partial":
        answer.partial_success.rejected_spans = int(words[0])
        answer.partial_success.error_message = "we do not like them"
    elif mode == "close":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 100\r\n\r\nhalf")
        await writer.drain()
        return False
    elif mode == "garbage":
        writer.write(b"\x00\xff\x15\x03\x01 what is this\r\n\r\n" * 20)
        await writer.drain()
        return False
    elif mode == "huge":
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 1099511627776\r\n\r\n")
        while True:
            writer.write(bytes(65536))
            await writer.drain()
    out = b"\xff\xfe no protobuf" if mode == "nonsense" else answer.SerializeToString()
    writer.write(f"HTTP/1.1 {status} Said\r\nContent-Type: application/x-protobuf\r\nContent-Length: {len(out)}\r\n".encode())
    for line in more:
        writer.write(line.encode() + b"\r\n")
    writer.write(b"\r\n" + out)
    await writer.drain()
    return True


async def serve(reader, writer):
    open_ones.add(writer)
    try:
        while state["mode"][0] == "deaf":
            await asyncio.sleep(0.05)
        while await one(reader, writer):
            pass
    except (OSError, EOFError, ValueError, asyncio.IncompleteReadError, asyncio.CancelledError):
        pass
    finally:
        open_ones.discard(writer)
        writer.transport.abort()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", 0, backlog=1024)
    port = server.sockets[0].getsockname()[1]
    say({"port": port})
    commands = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(commands), sys.stdin)
    while line := await commands.readline():
        state["mode"] = line.decode().split()
        for writer in list(open_ones):
            writer.transport.abort()
        if state["mode"] == ["down"]:
            server.close()
        elif not server.is_serving():
            server = await asyncio.start_server(serve, "127.0.0.1", port, backlog=1024)
        say({"mode": state["mode"], "requests": state["requests"], "bytes": state["bytes"]})


asyncio.run(main())
