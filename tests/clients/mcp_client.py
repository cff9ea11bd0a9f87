"""The MCP client of PyPI's `mcp`, as agents use it, with no key.

    mcp_client.py URL SCENE [MEMBER]
"""

import json
import sys

import anyio
import httpx2
from mcp import Client
from mcp.client.streamable_http import streamable_http_client

url, scene = sys.argv[1] + "/mcp/https", sys.argv[2]


def same(what, got, wanted):
    if got != wanted:
        raise SystemExit(f"{what}: {got!r}, not {wanted!r}")
    print(f"{what}: {got!r}")


class Wire:
    """The client's own connection, watched: what it asked and what it was answered."""

    def __init__(self, **headers):
        self.seen = []
        hooks = {"response": [self.answered]}
        self.client = httpx2.AsyncClient(headers=headers, timeout=60, event_hooks=hooks)

    async def answered(self, response):
        self.seen.append((response.request, response.status_code))

    def transport(self):
        return streamable_http_client(url, http_client=self.client)

    def answers(self, method):
        return [status for request, status in self.seen if request.method == method]

    def session(self):
        """The id of the only session."""
        ids = {request.headers.get("mcp-session-id") for request, _ in self.seen} - {None}
        return ids.pop() if len(ids) == 1 else None


async def run(client, heard=None, **arguments):
    """Calls the tool that says how far it is; gives what it said."""
    said = []

    async def progress(done, total, _message):
        said.append(int(done))
        if heard is not None:
            await heard(int(done))

    result = await client.call_tool("getData", arguments, progress_callback=progress)
    return said, json.loads(result.content[0].text)


async def sessions():
    wire = Wire()
    spoke = anyio.Event()

    async def log(message):
        same("the server speaks first", message.data, "the stream is open")
        spoke.set()

    async with wire.client:
        async with Client(wire.transport(), logging_callback=log) as client:
            same("revision", client.protocol_version, "2025-11-25")
            tools = [tool.name for tool in (await client.list_tools()).tools]
            same("tools", tools, ["pickModel", "pickTopic", "getData"])
            await spoke.wait()

            # Each step waits until the one before was reported: were any held back, this would hang.
            async def heard(done):
                await client.send_progress_notification("seen", done)

            said, found = await run(client, heard, steps=5, acknowledged=True)
            same("progress, one by one", said, [1, 2, 3, 4, 5])
            same("whose key it was", found["seenBy"], "org")
            said, found = await run(client, steps=5, breakAfter=2)
            same("progress, resumed after a cut", said, [1, 2, 3, 4, 5])
            same("the result after a cut", found["rows"], [[42]])
            said, found = await run(client, steps=5, closeAfter=3)
            same("progress, resumed after a pause", said, [1, 2, 3, 4, 5])
            resumed = [request.headers.get("last-event-id") for request, _ in wire.seen]
            same("resumed", len([one for one in resumed if one]), 2)
        session = wire.session()
        same("one session", session is not None, True)
        same("it was ended", wire.answers("DELETE"), [204])
        ping = {"jsonrpc": "2.0", "id": 1, "method": "ping"}
        fields = {"mcp-session-id": session, "accept": "application/json, text/event-stream"}
        answer = await wire.client.post(url, json=ping, headers=fields)
        same("and is gone", answer.status_code, 404)
        answer = await wire.client.delete(url, headers=fields)
        same("twice it cannot be ended", answer.status_code, 404)
        answer = await wire.client.post(url, json=ping)
        same("without a session", answer.status_code, 400)
        same("nothing else was refused", wire.answers("POST").count(400), 2)


async def without_sessions():
    wire = Wire()
    async with wire.client:
        async with Client(wire.transport(), mode="legacy") as client:
            same("tools", len((await client.list_tools()).tools), 3)
            said, _ = await run(client, steps=4)
            same("progress", said, [1, 2, 3, 4])
        same("no session", wire.session(), None)
        same("nothing to end", wire.answers("DELETE"), [])
        same("nothing to listen on", (await wire.client.get(url)).status_code, 405)


async def stateless():
    wire = Wire()
    async with wire.client:
        async with Client(wire.transport()) as client:
            same("revision", client.protocol_version, "2026-07-28")
            same("tools", len((await client.list_tools()).tools), 3)
            for topic in ("orders", "Umsätze"):
                said, found = await run(client, steps=4, topic=topic)
                same("progress", said, [1, 2, 3, 4])
                same("topic", found["topic"], topic)
        same("no session", wire.session(), None)
        same("all answered", set(wire.answers("POST")), {200})


async def denied():
    wire = Wire(**{"X-MCP-User-ID": sys.argv[3]})
    async with wire.client:
        try:
            async with Client(wire.transport(), mode="legacy"):
                raise SystemExit("it acted for another user")
        except Exception as refused:
            print(f"the client says: {refused!r}")
        same("refused", wire.answers("POST"), [403])


async def pinned():
    wire = Wire()
    async with wire.client:
        async with Client(wire.transport(), mode="legacy") as client:
            _, found = await run(client, steps=1)
            same("it acts for", found["actingFor"], sys.argv[3])


async def main():
    with anyio.fail_after(120):
        await globals()[scene]()


anyio.run(main)
print("all of it holds")
