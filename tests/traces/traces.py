"""Makes calls through a gateway, and looks at the spans that an OTLP receiver got of them.

    traces.py WORK OMNIGATE NPM [NAME...]

Ends with 1 if something does not hold.
"""

import asyncio
import contextlib
import json
import re
import secrets
import signal
import subprocess
import sys
import time
from pathlib import Path

import omni as omnis
import semconv
from gateway import Gateway, begun, call, clean_environment, ours, theirs
from spans import Span

# Spans leave soon, so that nobody has to wait for them.
SOON = {"OTEL_BSP_SCHEDULE_DELAY": "100"}
# What a caller brings and no span may have.
CANARIES = {
    "user-agent": "canary-agent/1", "accept-language": "xx-canary-language", "cookie": "canary=cookie",
    "x-canary": "canary-own-field", "referer": "", "x-request-id": "", "priority": "u=1",
    "accept": "application/canary+json",
}  # fmt: skip
QUERY = "canary-query-value"
BODY = b'{"secret":"canary-of-the-body"}'
# Clocks of two processes on one machine; what is rounded.
SLACK_NS = 2_000_000
broken, notes = [], []
facts = []


def must(holds, what):
    if not holds:
        broken.append(what)
        print(f"    NOT SO: {what}", flush=True)
    return bool(holds)


def note(what):
    notes.append(what)
    print(f"    note: {what}", flush=True)


def fact(one):
    """Marks a check. Its name is what holds."""
    facts.append(one)
    return one


class Caller:
    """A trace of which the caller's span is the root."""

    def __init__(self, flags="01"):
        self.trace, self.id, self.flags = secrets.token_hex(16), secrets.token_hex(8), flags

    @property
    def fields(self):
        return [("traceparent", f"00-{self.trace}-{self.id}-{self.flags}")]


class Stage:
    """Omni, a receiver, and the gateway between them."""

    def __init__(self, work, omnigate, npm):
        self.work, self.omnigate, self.npm = work, omnigate, npm

    @contextlib.asynccontextmanager
    async def set(self, env=None, otlp="yes", receiver=None, sample=None):
        self.omni = await omnis.Omni().start()
        self.receiver = await (receiver or theirs(self.npm)).start()
        share = "" if sample == "none" else f", sample = {sample or 1.0}"
        said = f'{{ endpoint = "http://127.0.0.1:{self.receiver.port}"{share} }}' if otlp == "yes" else otlp
        if callable(env):
            env = env(self)
        gateway = Gateway(self.omnigate, self.work, self.omni.port, said, SOON | (env or {}))
        try:
            async with gateway:
                self.gateway = gateway
                yield self
        finally:
            self.omni.go.set()
            self.omni.server.close()
            await self.receiver.end()

    async def call(self, target, caller=None, fields=(), method="GET", body=b""):
        fields = [*fields, *(caller.fields if caller else [])]
        return await call(self.gateway.port, method, target, fields, body)

    def of(self, caller):
        return [span for span in self.receiver.spans() if span.trace == caller.trace]

    def server_of(self, caller):
        return [span for span in self.of(caller) if span.kind == "SERVER"]

    async def arrived(self, caller, what="its server span"):
        """The spans of a caller's trace, once the server span is there."""
        await self.receiver.until(lambda: self.server_of(caller), f"{what} does not arrive: {self.gateway.said()[-600:]}")
        return await self.settled(caller)

    async def settled(self, caller):
        """All that was before is there when what comes later is."""
        later = Caller()
        await self.call("/api/v1/later", later)
        await self.receiver.until(lambda: self.server_of(later), "the span of a later call does not arrive")
        # And once more, for what ends when the caller has its answer.
        last = Caller()
        await self.call("/api/v1/later", last)
        await self.receiver.until(lambda: self.server_of(last), "the span of the last call does not arrive")
        return self.of(caller)


def only(spans, kind, what):
    found = [span for span in spans if span.kind == kind]
    must(len(found) == 1, f"{what}: {len(found)} {kind} spans, not one: {[(span.name, span.id) for span in spans]}")
    return found[0] if found else None


def kept(spans, what):
    """Everything that the registry says."""
    for span in spans:
        for wrong in semconv.of_span(span):
            must(False, f"{what}: {wrong}")


def nested(spans, what):
    by_id = {span.id: span for span in spans}
    for span in spans:
        must(span.start <= span.end, f"{what}: {span.name} ends before it starts")
        outer = by_id.get(span.parent)
        if outer is not None:
            must(outer.start - SLACK_NS <= span.start, f"{what}: {span.name} starts {(outer.start - span.start) / 1e6:.2f} ms before {outer.name}")
            must(span.end <= outer.end + SLACK_NS, f"{what}: {span.name} ends {(span.end - outer.end) / 1e6:.2f} ms after {outer.name}")


def said_of(stage):
    """All that arrived, as text, and as the bytes where we have them."""
    text = json.dumps(stage.receiver.lines)
    raw = b"".join(bytes.fromhex(line["raw"]) for line in stage.receiver.lines if "raw" in line)
    return text + raw.decode("latin1")


def leaks(stage, what, more=()):
    text = said_of(stage)
    for word in [omnis.KEY, omnis.KEY[9:], QUERY, "canary", *more]:
        # The receiver's own line of the request says what the gateway is called.
        if word and word in text:
            at = text.index(word)
            must(False, f"{what}: {word!r} is in what was exported: …{text[max(0, at - 80) : at + 80]}…")


@fact
async def the_check_itself_sees_what_is_wrong(stage):
    def span(kind="SERVER", name="GET /x/{id}", status="UNSET", message="", without=(), **more):
        said = {"http.request.method": ("string", "GET"), "http.route": ("string", "/x/{id}"), "url.path": ("string", "/x/1"), "url.scheme": ("string", "http"),
                "http.response.status_code": ("int", 200)}  # fmt: skip
        if kind == "CLIENT":
            said = {"http.request.method": ("string", "GET"), "url.full": ("string", "http://a/x"), "server.address": ("string", "a"), "server.port": ("int", 80),
                    "http.response.status_code": ("int", 200)}  # fmt: skip
        said |= {one.replace("__", "."): value for one, value in more.items()}
        said = {one: value for one, value in said.items() if one not in without}
        return Span(name, "1" * 32, "1" * 16, "", kind, 1, 2, status, message, said, {"service.name": ("string", "omnigate")}, {"name": "omnigate"})

    for good in (span(), span("CLIENT", "GET"), span("INTERNAL", "omnigate.queue", omnigate__queue__wait=("double", 1.0)), span(http__response__status_code=("int", 404))):
        must(not semconv.of_span(good), f"what is right is called wrong: {semconv.of_span(good)}")
    for wrong in (
        span(http__response__status_code=("string", "200")), span(url__pth=("string", "/")), span(name="GET /x/1"), span(without=["url.scheme"]),
        span(http__response__status_code=("int", 500)), span(http__response__status_code=("int", 500), error__type=("string", "500")),
        span(status="ERROR"), span(status="OK"), span(error__type=("string", "cancelled")), span(http__request__method=("string", "get"), name="get /x/{id}"),
        span(http__request__resend_count=("int", 1)), span(url__full=("string", "http://a/")), span("CLIENT", "GET /x/1"), span("CLIENT", "GET", http__response__status_code=("int", 404)),
        span("CLIENT", "GET", without=["server.port"]), span("CLIENT", "GET", http__request__resend_count=("int", 0)), span("CLIENT", "GET", url__full=("string", "http://u:p@a/")),
        span("INTERNAL", "omnigate.queue", wait=("double", 1.0)), span("PRODUCER"),
    ):  # fmt: skip
        must(semconv.of_span(wrong), f"what is wrong is not seen: {wrong.kind} {wrong.name} {wrong.status} {wrong.attributes}")


@fact
async def a_call_that_waits_and_is_refused_once_is_one_trace(stage):
    async with stage.set():
        for _ in range(2):
            await stage.call("/api/v1/documents/first")
        stage.omni.refuse = 1
        caller, own = Caller(), list(CANARIES.items())
        since = time.time_ns()
        answer = await stage.call(f"/api/v1/documents/abc?name={QUERY}&x=1", caller, [(n, v) for n, v in own if v], "POST", BODY)
        until = time.time_ns()
        must(answer.status == 200, f"the call is answered {answer.status}: {answer.body[:200]}")
        spans = await stage.arrived(caller)
        for span in sorted(spans, key=lambda span: span.start):
            print(f"      {span.kind:8} {span.name:40} {(span.start - since) / 1e9:6.3f} to {(span.end - since) / 1e9:6.3f} s  {span.status:5}  "
                  + " ".join(f"{name}={value}" for name, (_, value) in sorted(span.attributes.items())), flush=True)  # fmt: skip
        what = "the trace"
        server = only(spans, "SERVER", what)
        if server is None:
            return
        must(server.parent == caller.id, f"{what}: the server span's parent is {server.parent}, not the caller's span")
        must(server.name == "POST /api/v1/documents/{id}", f"{what}: the server span is named {server.name}")
        must(server.get("http.response.status_code") == 200, f"{what}: the server span has another status")
        must(server.get("http.route") == "/api/v1/documents/{id}", f"{what}: http.route is {server.get('http.route')}")
        must(server.status == "UNSET", f"{what}: the server span's status is {server.status}")
        must(since - SLACK_NS <= server.start and server.end <= until + 50_000_000, f"{what}: the server span is not within the call as its caller saw it")

        queue = sorted((span for span in spans if span.name == "omnigate.queue"), key=lambda span: span.start)
        if must(queue, f"{what}: no omnigate.queue span"):
            first = queue[0]
            must(2.5 <= first.seconds <= 4, f"{what}: the first queue span is {first.seconds:.3f} s long")
            for one in queue:
                must(one.kind == "INTERNAL", f"{what}: a queue span is {one.kind}")
                must(one.parent == server.id, f"{what}: a queue span is not the server span's child")
                for word in ("position", "priority"):
                    must([name for name in one.attributes if word in name], f"{what}: a queue span has no {word}: {sorted(one.attributes)}")
            if must(len(queue) == 2, f"{what}: {len(queue)} queue spans, for two waits"):
                must(queue[1].seconds >= 0.8, f"{what}: the wait of the pause is {queue[1].seconds:.3f} s")

        clients = sorted((span for span in spans if span.kind == "CLIENT"), key=lambda span: span.start)
        must(len(spans) == 1 + len(queue) + len(clients), f"{what}: more spans than these: {[span.name for span in spans]}")
        if must(len(clients) == 2, f"{what}: {len(clients)} client spans"):
            one, two = clients
            for client in clients:
                must(client.parent == server.id, f"{what}: a client span is not the server span's child")
                must(client.get("server.port") == stage.omni.port, f"{what}: server.port is {client.get('server.port')}")
                must(QUERY not in str(client.get("url.full")), f"{what}: url.full has the query's value")
                must(str(client.get("url.full")).split("?")[0] == f"http://127.0.0.1:{stage.omni.port}/api/v1/documents/abc", f"{what}: url.full is {client.get('url.full')}")
            must(one.get("http.response.status_code") == 429, f"{what}: the first client span's status code is {one.get('http.response.status_code')}")
            must(one.status == "ERROR", f"{what}: the first client span's status is {one.status}")
            must(one.get("error.type") == "429", f"{what}: the first client span's error.type is {one.get('error.type')}")
            must("http.request.resend_count" not in one.attributes, f"{what}: the first client span has a resend count")
            must(two.get("http.response.status_code") == 200, f"{what}: the second client span's status code is {two.get('http.response.status_code')}")
            must(two.status == "UNSET", f"{what}: the second client span's status is {two.status}")
            must(two.attributes.get("http.request.resend_count") == ("int", 1), f"{what}: the second's resend count is {two.attributes.get('http.request.resend_count')}")
            tried = [came for came in stage.omni.calls if "/abc" in came.target]
            if must(len(tried) == 2, f"{what}: Omni saw {len(tried)} calls"):
                must(two.valued(tried[1].trace_id), f"{what}: Omni's x-trace-id is not on the second client span")
                for client, came in zip(clients, tried, strict=True):
                    must(client.start - SLACK_NS <= came.at <= client.end + SLACK_NS, f"{what}: Omni saw a call outside of its client span")
            if len(queue) == 2:
                must(queue[0].end <= one.start + SLACK_NS and one.end <= queue[1].end + SLACK_NS and queue[1].end <= two.start + SLACK_NS,
                     f"{what}: waits and attempts do not follow each other")  # fmt: skip
        kept(spans, what)
        nested(spans, what)

        resource = server.resource
        version = subprocess.run([stage.omnigate, "--version"], capture_output=True, text=True).stdout.split()[-1]
        for name, value in {"service.name": "omnigate", "service.version": version, "telemetry.sdk.language": "rust"}.items():
            must(resource.get(name) == ("string", value), f"the resource's {name} is {resource.get(name)}")
        for name in ("telemetry.sdk.name", "telemetry.sdk.version"):
            must(name in resource, f"the resource has no {name}")
        for span in spans:
            must(span.scope.get("name"), f"{what}: a scope without a name")
            must(re.fullmatch(r"[0-9a-f]{16}", span.id), f"{what}: span id {span.id}")
            must(not span.events and not span.links, f"{what}: events {span.events} links {span.links}")
        if server.schema:
            must(re.fullmatch(r"https://opentelemetry.io/schemas/1\.\d+\.\d+", server.schema), f"schema_url is {server.schema}")
        requests = stage.receiver.requests()
        must(all(line["path"] == "/v1/traces" and line["method"] == "POST" for line in requests), f"asked for {[line['path'] for line in requests]}")
        must(requests[0]["fields"].get("content-type") == "application/x-protobuf", f"fields {requests[0]['fields']}")
        must("authorization" not in requests[0]["fields"], "the exporter shows an authorization")
        leaks(stage, what, [one for one in CANARIES.values() if "canary" in one])
        said = stage.gateway.said()
        must(caller.trace in said, "the log's line of the exchange does not name the trace")


@fact
async def no_caller_field_query_or_key_is_in_the_bytes(stage):
    async with stage.set(receiver=ours()):
        fields = [(name, value) for name, value in CANARIES.items() if value]
        fields += [("authorization", "Bearer canary-token"), ("x-omnigate-caller", "canarycaller"), ("baggage", "user=canary-baggage"),
                   ("forwarded", "for=canary"), ("x-forwarded-for", "203.0.113.77"), ("content-type", "canary/x")]  # fmt: skip
        for target in (f"/api/v1/a?q={QUERY}", f"/api/v1/models/1?q={QUERY}&{omnis.KEY}", f"/api/v1/folders/1?a=b&q={QUERY}"):
            caller = Caller()
            await stage.call(target, caller, fields)
            spans = await stage.arrived(caller)
            kept(spans, target)
            for span in spans:
                query = span.get("url.query")
                must(query is None or QUERY not in query, f"{target}: url.query is {query}")
        for line in stage.receiver.requests():
            must("unreadable" not in line, f"an export cannot be read: {line.get('unreadable')}")
        leaks(stage, "canaries", ["203.0.113.77"])


@fact
async def what_a_caller_says_that_goes_along_is_known(stage):
    """What it says on purpose: its own id of the call, the names of its query's fields."""
    async with stage.set(receiver=ours()):
        caller = Caller()
        await stage.call("/api/v1/a?bare-word&named=value", caller, [("x-request-id", "own-id-of-a-caller")])
        spans = await stage.arrived(caller)
        where = sorted({name for span in spans for name, (_, value) in span.attributes.items() if "own-id-of-a-caller" in str(value)})
        note(f"the caller's X-Request-Id is in {where}")
        where = {name: value for span in spans for name, (_, value) in span.attributes.items() if "bare-word" in str(value)}
        note(f"a query of ?bare-word&named=value is in {where}")
        must("value" not in "".join(map(str, where.values())), f"a query's value is in {where}")


@fact
async def what_omni_calls_a_call_is_recorded_unless_it_is_no_id(stage):
    async with stage.set(receiver=ours()):
        for said, recorded in (
            ("Root=1-67891233-abcdef012345678912345678", True), ("Root=1-67891233-abcdef012345678912345678;Parent=53995c3f42cd8ad8;Sampled=1", None),
            ("0af7651916cd43dd8448eb211c80319c", True), (f"Root=1-{omnis.KEY}", False), ("x" * 5000, False), ("<script>", False),
        ):  # fmt: skip
            stage.omni.says, caller = said, Caller()
            await stage.call("/api/v1/x", caller)
            client = only(await stage.arrived(caller), "CLIENT", said[:40])
            found = client.valued(said) if client else []
            if recorded is None:
                note(f"{said}: {'recorded' if found else 'not recorded'}")
            else:
                must(bool(found) == recorded, f"Omni's id {said[:60]!r} is {'recorded' if found else 'not recorded'}")
        leaks(stage, "Omni's ids")


@fact
async def the_callers_tracestate_goes_upstream_with_its_trace_and_nowhere_else(stage):
    async with stage.set():
        caller = Caller()
        await stage.call("/api/v1/models/1", caller, [("tracestate", "vendor=one,other=two")])
        spans = await stage.arrived(caller)
        came = stage.omni.calls[0]
        must(came.all("tracestate") == ["vendor=one,other=two"], f"upstream saw {came.all('tracestate')} where it is asked for")
        # It is a caller's text, and the collector's other spans have it anyway.
        must(not any(span.state for span in spans), f"a caller's tracestate is in the export: {[span.state for span in spans]}")
        # With a traceparent that is none, it is none either.
        stage.omni.calls.clear()
        await stage.call("/api/v1/models/2", None, [("traceparent", "00-1-1-01"), ("tracestate", "vendor=stray")])
        seen = stage.omni.calls[0].all("tracestate")
        must(not seen, f"upstream saw the tracestate {seen} of a trace that was not gone on with, beside {stage.omni.calls[0].all('traceparent')}")
        must("stray" not in said_of(stage), "a tracestate without its trace is in the export")


@fact
async def a_trace_that_its_caller_does_not_sample_is_not_sent(stage):
    async with stage.set():
        for flags in ("00", "02"):
            quiet = Caller(flags)
            must((await stage.call("/api/v1/x", quiet)).status == 200, "a call that is not sampled fails")
            await stage.settled(quiet)
            must(not stage.of(quiet), f"flags {flags}: {[span.name for span in stage.of(quiet)]} arrived")


@fact
async def the_unknown_flags_and_versions_to_come_are_taken_as_the_standard_says(stage):
    async with stage.set():
        for flags in ("03", "ff", "09"):
            caller = Caller(flags)
            await stage.call("/api/v1/x", caller)
            await stage.settled(caller)
            must([one.parent for one in stage.server_of(caller)] == [caller.id], f"flags {flags}: the trace is not gone on with")
        # A version to come may have more fields, after a dash.
        for form in ("01-{}-{}-01", "cc-{}-{}-01-what-comes"):
            caller = Caller()
            await stage.call("/api/v1/x", None, [("traceparent", form.format(caller.trace, caller.id))])
            await stage.settled(caller)
            must([one.parent for one in stage.server_of(caller)] == [caller.id], f"{form}: the trace is not gone on with")


@fact
async def a_traceparent_that_is_none_begins_a_new_trace(stage):
    trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
    good = f"00-{trace}-{span}-01"
    variants = {
        "none": [], "version ff": [f"ff-{trace}-{span}-01"], "no trace": [f"00-{'0' * 32}-{span}-01"], "no span": [f"00-{trace}-{'0' * 16}-01"],
        "upper case": [good.upper()], "more after version 00": [good + "-00"], "a dash after version 00": [good + "-"], "two": [good, good], "two in one": [f"{good}, {good}"],
        "short trace": [f"00-{trace[1:]}-{span}-01"], "short flags": [f"00-{trace}-{span}-1"], "no hex": [f"00-{trace[:-1]}g-{span}-01"],
        "a sign": [f"00-+{trace[1:]}-{span}-01"], "sign in the flags": [f"00-{trace}-{span}-+1"], "sign in the version": [f"+0-{trace}-{span}-01"], "empty": [""], "10,000 bytes": ["00-" + "a" * 10_000],
        "version 1, run on": [f"01-{trace}-{span}-01what"], "beyond ASCII": [f"00-{trace}-{span}-0\u00e9"],
    }  # fmt: skip
    async with stage.set():
        for what, values in variants.items():
            known = {one.id for one in stage.receiver.spans()}
            answer = await stage.call(f"/api/v1/variant/{secrets.token_hex(4)}", None, [("traceparent", value) for value in values])
            must(answer.status == 200, f"{what}: the call is answered {answer.status}")
            fresh = lambda known=known: [one for one in stage.receiver.spans() if one.id not in known and one.kind == "SERVER"]
            await stage.receiver.until(fresh, f"{what}: no span arrives")
            server = fresh()[0]
            must(server.parent == "", f"{what}: the server span has the parent {server.parent}")
            must(server.trace != trace and server.trace != "0" * 32 and len(server.trace) == 32, f"{what}: the trace is {server.trace}")
            must(trace not in json.dumps([one.__dict__ for one in fresh()]), f"{what}: the caller's trace is gone on with")


@fact
async def upstream_sees_a_traceparent_where_a_route_says_so_and_nowhere_else(stage):
    async with stage.set():
        caller = Caller()
        await stage.call("/api/v1/models/1", caller)
        spans = await stage.arrived(caller)
        client = only(spans, "CLIENT", "a route that passes traceparent on")
        seen = stage.omni.calls[0].all("traceparent")
        if client:
            must(seen == [f"00-{caller.trace}-{client.id}-01"], f"upstream saw {seen}, and not the client span {client.id}")

        # Each attempt is a span of its own.
        stage.omni.calls.clear()
        stage.omni.refuse, caller = 1, Caller()
        await stage.call("/api/v1/models/2", caller)
        clients = {span.id for span in await stage.arrived(caller) if span.kind == "CLIENT"}
        seen = [one for came in stage.omni.calls if "/models/2" in came.target for one in came.all("traceparent")]
        must({one.split("-")[2] for one in seen} == clients and len(clients) == 2, f"two attempts: upstream saw {seen}, spans {clients}")

        stage.omni.calls.clear()
        quiet = Caller("00")
        await stage.call("/api/v1/models/3", quiet)
        seen = stage.omni.calls[0].all("traceparent")
        must(len(seen) == 1 and seen[0].startswith(f"00-{quiet.trace}-") and seen[0].endswith("-00"), f"not sampled: upstream saw {seen}")

        stage.omni.calls.clear()
        await stage.call("/api/v1/models/4")
        seen = stage.omni.calls[0].all("traceparent")
        must(len(seen) == 1 and re.fullmatch(r"00-[0-9a-f]{32}-[0-9a-f]{16}-01", seen[0]), f"no traceparent brought: upstream saw {seen}")

        stage.omni.calls.clear()
        for target in ("/api/v1/x", "/api/v1/documents/1", "/api/v1/folders/9"):
            await stage.call(target, Caller(), [("tracestate", "a=b"), ("baggage", "a=b"), ("b3", "1-1-1")])
        for came in stage.omni.calls:
            told = [name for name, _ in came.fields if name in ("traceparent", "tracestate", "baggage", "b3")]
            must(not told, f"{came.target}: upstream saw {told}, which nobody asked for")


@fact
async def a_kept_answer_is_a_server_span_alone(stage):
    async with stage.set():
        first, second = Caller(), Caller()
        await stage.call("/api/v1/folders/1", first)
        await stage.call("/api/v1/folders/1", second)
        missed, hit = await stage.arrived(first), await stage.arrived(second)
        must(len(stage.omni.calls) >= 1, "Omni saw nothing")
        must([span.kind for span in hit] == ["SERVER"], f"a hit: {[(span.kind, span.name) for span in hit]}")
        must(sum(span.kind == "CLIENT" for span in missed) == 1, f"a miss: {[(span.kind, span.name) for span in missed]}")
        kept(missed + hit, "cache")
        told = {name: value for span in hit for name, (_, value) in span.attributes.items() if name.startswith("omnigate.")}
        note(f"of a hit it is said: {told}")
        must(any("cache" in name for name in told), f"a hit: nothing is said of the cache: {told}")
        nested(missed, "a miss")


@fact
async def calls_that_share_a_fetch_have_one_client_span_between_them(stage):
    async with stage.set():
        stage.omni.hold = "/folders/shared"
        one, two = Caller(), Caller()
        both = [asyncio.create_task(stage.call("/api/v1/folders/shared", one))]
        for _ in range(200):
            if stage.omni.calls:
                break
            await asyncio.sleep(0.02)
        both.append(asyncio.create_task(stage.call("/api/v1/folders/shared", two)))
        # The second must be aboard before the first is answered; the page of what is counted says so, or time does.
        await asyncio.sleep(0.5)
        stage.omni.go.set()
        answers = await asyncio.gather(*both)
        must([answer.status for answer in answers] == [200, 200], "calls that share a fetch fail")
        fetched = [came for came in stage.omni.calls if "shared" in came.target]
        must(len(fetched) == 1, f"Omni saw {len(fetched)} calls of two that share one")
        await stage.arrived(one)
        await stage.arrived(two)
        every = [span for span in stage.receiver.spans() if span.kind == "CLIENT" and "shared" in str(span.get("url.full"))]
        must(len(every) == 1, f"{len(every)} client spans of one fetch")
        for caller in (one, two):
            only(stage.of(caller), "SERVER", "a call that shares a fetch")
        if every:
            where = "the first" if every[0].trace == one.trace else "the second" if every[0].trace == two.trace else "its own"
            note(f"the client span of a fetch that is shared is in {where} trace; links {[(span.name, span.links) for span in stage.of(two) + every if span.links]}")
        kept(stage.of(one) + stage.of(two) + every, "a fetch that is shared")


@fact
async def a_caller_who_leaves_ends_its_spans(stage):
    async with stage.set():
        # In the queue.
        for _ in range(2):
            await stage.call("/api/v1/documents/first")
        waiting = Caller()
        _, writer = await begun(stage.gateway.port, "GET", "/api/v1/documents/queued", waiting.fields)
        await asyncio.sleep(0.5)
        writer.transport.abort()
        spans = await stage.arrived(waiting, "the span of a caller who left the queue")
        server = only(spans, "SERVER", "a caller who left the queue")
        must(not [span for span in spans if span.kind == "CLIENT"], "a caller who left the queue has a client span")
        must([span for span in spans if span.name == "omnigate.queue"], "a caller who left the queue has no queue span")
        must(server and server.seconds < 2.5, "the span of a caller who left the queue lasts on")
        must(server and "http.response.status_code" not in server.attributes, f"no status was sent, the span says {server and server.get('http.response.status_code')}")
        kept(spans, "a caller who left the queue")
        nested(spans, "a caller who left the queue")

        # One that is refused for its waiting says how long that was.
        hurried = Caller()
        answer = await stage.call("/api/v1/documents/hurried", hurried, [("prefer", "wait=1")])
        spans = await stage.arrived(hurried)
        server = only(spans, "SERVER", "a call that waited in vain")
        waits = [span for span in spans if span.name == "omnigate.queue"]
        note(f"a call that may wait for 1 s and would have to for longer: {answer.status}, after {server and server.seconds:.2f} s, queue spans {[round(one.seconds, 2) for one in waits]}")
        if server and server.seconds > 0.5:
            must(waits, "a call that waited in vain has no queue span")
        kept(spans, "a call that waited in vain")

        # While Omni thinks.
        stage.omni.hold, asked = "/slow/thought", Caller()
        _, writer = await begun(stage.gateway.port, "GET", "/api/v1/slow/thought", asked.fields)
        for _ in range(200):
            if any("/slow/thought" in came.target for came in stage.omni.calls):
                break
            await asyncio.sleep(0.02)
        writer.transport.abort()
        spans = await stage.arrived(asked, "the span of a caller who left Omni's answer")
        client = only(spans, "CLIENT", "a caller who left Omni's answer")
        must(client and "http.response.status_code" not in client.attributes, "a client span without an answer has a status code")
        # Ended on purpose is no error (HTTP spans, Status).
        must(client and client.status == "UNSET" and client.get("error.type") is None, f"a call that was given up is called an error: {client and (client.status, client.get('error.type'))}")
        note(f"left while Omni thinks: client {client and (client.status, client.get('error.type'))}, server {[(s.status, s.get('error.type')) for s in spans if s.kind == 'SERVER']}")
        kept(spans, "a caller who left Omni's answer")
        nested(spans, "a caller who left Omni's answer")


@fact
async def failures_are_told_as_the_registry_says(stage):
    async with stage.set():
        for status, server_status in ((404, "UNSET"), (500, "ERROR"), (403, "UNSET")):
            stage.omni.fail, caller = status, Caller()
            answer = await stage.call("/api/v1/failing", caller, method="POST")
            must(answer.status == status, f"{status} is answered {answer.status}")
            spans = await stage.arrived(caller)
            server, client = only(spans, "SERVER", f"{status}"), only(spans, "CLIENT", f"{status}")
            must(server and server.status == server_status, f"{status}: the server span is {server and server.status}")
            must(client and client.status == "ERROR" and client.get("error.type") == str(status), f"{status}: the client span is {client and (client.status, client.get('error.type'))}")
            kept(spans, f"{status}")

        # The answer ends in its middle: an error, whatever its status was.
        stage.omni.cut, caller = True, Caller()
        try:
            await stage.call("/api/v1/cut", caller)
            must(False, "an answer that was cut short looks whole")
        except (EOFError, OSError):
            pass
        spans = await stage.arrived(caller)
        server = only(spans, "SERVER", "an answer that was cut short")
        must(server and server.status == "ERROR" and server.get("error.type"), f"an answer that was cut short: server span {server and (server.status, server.get('error.type'), server.get('http.response.status_code'))}")
        kept(spans, "an answer that was cut short")

        for method in ("FOO", "get"):
            caller = Caller()
            answer = await stage.call("/api/v1/methods", caller, method=method)
            spans = await stage.settled(caller)
            kept(spans, f"method {method}")
            for span in spans:
                must(span.kind == "INTERNAL" or span.get("http.request.method") == "_OTHER", f"method {method}: {span.get('http.request.method')}")
                must(method not in json.dumps([span.name, span.attributes]), f"method {method} is in {span.name} {span.attributes}")
            note(f"method {method} is answered {answer.status}, spans {[span.name for span in spans]}")
        for method in ("HEAD", "PUT", "DELETE", "OPTIONS", "PATCH"):
            caller = Caller()
            await stage.call("/api/v1/methods", caller, method=method)
            kept(await stage.arrived(caller), f"method {method}")

        # What never gets as far as a route.
        caller = Caller()
        reader, writer = await asyncio.open_connection("127.0.0.1", stage.gateway.port)
        writer.write(f"GET /canary-path HTTP/1.1\r\nHost: evil.test\r\n{': '.join(caller.fields[0])}\r\n\r\n".encode())
        status = (await reader.readline()).decode().strip()
        writer.transport.abort()
        spans = await stage.settled(caller)
        kept(spans, "a refused Host")
        note(f"another Host is answered {status!r}, spans {[(span.name, span.status, span.get('error.type'), span.get('http.response.status_code')) for span in spans]}")

    async with stage.set():
        # Before the gateway has any connection.
        stage.omni.server.close()
        caller = Caller()
        answer = await stage.call("/api/v1/nobody", caller, method="POST")
        must(answer.status in (502, 503, 504), f"Omni is gone: answered {answer.status}")
        await stage.receiver.until(lambda: stage.server_of(caller), "Omni is gone: no span")
        await asyncio.sleep(0.5)
        spans = stage.of(caller)
        clients = [span for span in spans if span.kind == "CLIENT"]
        # It may have taken seconds to find out: whose they were is what a trace is for.
        must(clients, "Omni is gone: no attempt has a client span")
        for client in clients:
            must(client.status == "ERROR" and client.get("error.type"), f"Omni is gone: client {client.status}, {client.get('error.type')}")
            must("http.response.status_code" not in client.attributes, "Omni is gone: a client span has a status code")
        note(f"Omni is gone: {answer.status}, clients {[(c.get('error.type'), c.get('http.request.resend_count')) for c in clients]}, server error.type {[s.get('error.type') for s in spans if s.kind == 'SERVER']}")
        kept(spans, "Omni is gone")


async def whether_spans_come(stage, calls=3):
    """Makes calls that are roots, and one that its caller samples; ends the gateway, which sends what it has."""
    caller = Caller()
    for _ in range(calls):
        await stage.call("/api/v1/x")
    await stage.call("/api/v1/x", caller)
    await stage.gateway.end()
    await asyncio.sleep(0.1)
    spans = stage.receiver.spans()
    return [span for span in spans if span.trace != caller.trace and span.kind == "SERVER"], stage.server_of(caller)


@fact
async def the_variables_turn_it_off_and_sample(stage):
    off = [
        {"OTEL_SDK_DISABLED": "true"}, {"OTEL_SDK_DISABLED": "TRUE"}, {"OTEL_TRACES_EXPORTER": "none"}, {"OTEL_TRACES_SAMPLER": "always_off"},
        {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"},
    ]  # fmt: skip
    for env in off:
        async with stage.set(env, sample="none" if "SAMPLER" in str(env) else None):
            roots, child = await whether_spans_come(stage)
            must(not roots and not child and not stage.receiver.requests(), f"{env}: {len(roots)} roots, {len(child)} children, {len(stage.receiver.requests())} requests")
    # Roots, and the call that its caller samples.
    for env, roots_come, child_comes in (
        ({"OTEL_TRACES_SAMPLER": "always_on"}, True, True),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, False, False),
        ({"OTEL_TRACES_SAMPLER": "traceidratio", "OTEL_TRACES_SAMPLER_ARG": "1"}, True, True),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_off"}, False, True),
        ({"OTEL_TRACES_SAMPLER": "parentbased_always_on"}, True, True),
        ({"OTEL_TRACES_SAMPLER": "parentbased_traceidratio", "OTEL_TRACES_SAMPLER_ARG": "0"}, False, True),
        ({"OTEL_SDK_DISABLED": "false"}, True, True), ({"OTEL_SDK_DISABLED": ""}, True, True), ({"OTEL_SDK_DISABLED": "1"}, True, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True, True), ({"OTEL_TRACES_EXPORTER": ""}, True, True), ({"OTEL_TRACES_SAMPLER": ""}, True, True),
    ):  # fmt: skip
        async with stage.set(env, sample="none"):
            roots, child = await whether_spans_come(stage)
            must(bool(roots) == roots_come, f"{env}: {len(roots)} of 3 roots came")
            must(bool(child) == child_comes, f"{env}: {len(child)} of 1 sampled by its caller came")
    async with stage.set(sample=0.5):
        roots, child = await whether_spans_come(stage, 200)
        must(60 <= len(roots) <= 140, f"sample = 0.5: {len(roots)} of 200 roots came")
        must(len(child) == 1, "sample = 0.5: what its caller samples does not come")
    async with stage.set(sample="0.0"):
        roots, child = await whether_spans_come(stage)
        must(not roots and len(child) == 1, f"sample = 0.0: {len(roots)} roots, {len(child)} children came")


@fact
async def the_variables_say_where_to_and_who(stage):
    env = {"OTEL_SERVICE_NAME": "by name", "OTEL_RESOURCE_ATTRIBUTES": "service.name=by-attribute,deployment.environment.name=test%20bed,team=a%2Cb"}
    async with stage.set(env):
        _, child = await whether_spans_come(stage)
        if must(child, "no span with OTEL_SERVICE_NAME"):
            resource = {name: value for name, (_, value) in child[0].resource.items()}
            must(resource.get("service.name") == "by name", f"service.name is {resource.get('service.name')}")
            must(resource.get("deployment.environment.name") == "test bed", f"deployment.environment.name is {resource.get('deployment.environment.name')!r}")
            must(resource.get("team") == "a,b", f"team is {resource.get('team')!r}")
            must(resource.get("service.version"), "service.version is gone")
    async with stage.set({"OTEL_RESOURCE_ATTRIBUTES": "service.name=by-attribute"}):
        _, child = await whether_spans_come(stage)
        must(child and child[0].resource.get("service.name") == ("string", "by-attribute"), f"service.name of OTEL_RESOURCE_ATTRIBUTES: {child and child[0].resource.get('service.name')}")

    here = lambda path="": lambda stage: f"http://127.0.0.1:{stage.receiver.port}{path}"
    for name, path, expected in (
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "", "/v1/traces"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "/", "/v1/traces"),
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "/under/this", "/under/this/v1/traces"), ("OTEL_EXPORTER_OTLP_ENDPOINT", "/under/this/", "/under/this/v1/traces"),
        ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/as/it/is", "/as/it/is"), ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "", "/"),
    ):  # fmt: skip
        async with stage.set(lambda s, name=name, path=path: {name: here(path)(s)}, otlp=None, receiver=ours()):
            _, child = await whether_spans_come(stage)
            paths = {line["path"] for line in stage.receiver.requests()}
            must(child and paths == {expected}, f"{name}={path or 'no path'}: {len(child)} came, asked for {paths}")
    headers = {"OTEL_EXPORTER_OTLP_HEADERS": "api-key=secret%20one,x-other=2"}
    for env, expected in (
        (headers, {"api-key": "secret one", "x-other": "2"}),
        # An empty one is none.
        (headers | {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": ""}, {"api-key": "secret one"}),
        (headers | {"OTEL_EXPORTER_OTLP_TRACES_HEADERS": "api-key=for-traces"}, {"api-key": "for-traces"}),
    ):
        async with stage.set(env, receiver=ours()):
            await whether_spans_come(stage)
            requests = stage.receiver.requests()
            fields = requests[0]["fields"] if must(requests, f"{env}: nothing came") else {}
            for name, value in expected.items():
                must(fields.get(name) == value, f"{env}: the field {name} is {fields.get(name)!r}")
            must("secret one" not in stage.gateway.said() and "for-traces" not in stage.gateway.said(), "the log names a field of the exporter's")
    for name in ("OTEL_EXPORTER_OTLP_COMPRESSION", "OTEL_EXPORTER_OTLP_TRACES_COMPRESSION"):
        async with stage.set({name: "gzip"}, receiver=ours()):
            _, child = await whether_spans_come(stage)
            how = {line["fields"].get("content-encoding") for line in stage.receiver.requests()}
            must(child and how == {"gzip"}, f"{name}=gzip: {len(child)} came, content-encoding {how}")
    # The file counts more than what the environment says of the same.
    async with stage.set({"OTEL_TRACES_SAMPLER": "always_off"}):
        roots, child = await whether_spans_come(stage)
        must(roots and child, "OTEL_TRACES_SAMPLER counts more than `sample` in the file")
    async with stage.set(lambda s: {"OTEL_EXPORTER_OTLP_ENDPOINT": here()(s)}, otlp='{ endpoint = "http://127.0.0.1:9" }'):
        _, child = await whether_spans_come(stage)
        must(not child, "OTEL_EXPORTER_OTLP_ENDPOINT counts more than the file")
    # No sign of any receiver: nobody is asked.
    async with stage.set(otlp=None):
        roots, child = await whether_spans_come(stage)
        must(not roots and not child, "spans came that nobody asked for")


@fact
async def the_variables_of_the_batch_count(stage):
    # Bigger than what there is: it leaves by the clock.
    async with stage.set({"OTEL_BSP_SCHEDULE_DELAY": "1500"}, receiver=ours()):
        since, caller = time.monotonic(), Caller()
        await stage.call("/api/v1/x", caller)
        await stage.receiver.until(lambda: stage.server_of(caller), "no span with a delay of 1.5 s")
        took = time.monotonic() - since
        must(took <= 3.5, f"OTEL_BSP_SCHEDULE_DELAY=1500: {took:.2f} s")
        note(f"OTEL_BSP_SCHEDULE_DELAY=1500: the span came after {took:.2f} s")
    async with stage.set({"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}, receiver=ours()):
        for _ in range(20):
            await stage.call("/api/v1/x")
        await stage.receiver.until(lambda: len(stage.receiver.spans()) >= 16, "a full batch does not leave before its time")
        most = max(len(line["message"]["resourceSpans"][0]["scopeSpans"][0]["spans"]) for line in stage.receiver.requests())
        must(most <= 4, f"OTEL_BSP_MAX_EXPORT_BATCH_SIZE=4: a batch of {most}")
    async with stage.set({"OTEL_BSP_SCHEDULE_DELAY": "60000", "OTEL_BSP_MAX_QUEUE_SIZE": "10", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "10"}, receiver=ours()):
        await stage.receiver.be("hole")
        await asyncio.gather(*(stage.call("/api/v1/x") for _ in range(200)))
        await stage.receiver.be("ok")
        await stage.gateway.end()
        came = len(stage.receiver.spans())
        note(f"OTEL_BSP_MAX_QUEUE_SIZE=10 and a black hole: {came} of 400 spans came in the end")
        must(came <= 60, f"OTEL_BSP_MAX_QUEUE_SIZE=10: {came} spans were held")
    for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT"):
        async with stage.set({name: "300"}, receiver=ours()):
            await stage.receiver.be("hole")
            await stage.call("/api/v1/x")
            await stage.receiver.until(stage.receiver.requests, f"{name}: nothing came")
            await asyncio.sleep(1.5)
            failed = await lost(stage.gateway)
            must(failed > 0, f"{name}=300: after 1.5 s in a black hole nothing is counted as lost")
    # What cannot be read is said, and changes nothing.
    async with stage.set({"OTEL_EXPORTER_OTLP_TIMEOUT": "soon", "OTEL_BSP_MAX_QUEUE_SIZE": "-1", "OTEL_TRACES_SAMPLER": "some"}, sample="none"):
        _, child = await whether_spans_come(stage)
        must(child, "with variables that cannot be read, nothing comes")
        silent = [name for name in ("OTEL_EXPORTER_OTLP_TIMEOUT", "OTEL_BSP_MAX_QUEUE_SIZE", "OTEL_TRACES_SAMPLER") if name not in stage.gateway.said()]
        must(not silent, f"variables that cannot be read, and nobody is told: {silent}")


async def lost(gateway):
    """The spans that did not get there, as the page of metrics counts them."""
    spans = await gateway.counted("omnigate_otlp_spans_total")
    return sum(count for labels, count in spans.items() if "exported" not in labels)


@fact
async def a_receiver_in_trouble_is_outlived(stage):
    modes = ["slow 3", "status 503", "status 503 Retry-After: 1", "status 429 Retry-After: 1", "status 400", "hole", "deaf", "partial 1",
             "close", "garbage", "nonsense", "huge", "down"]  # fmt: skip
    async with stage.set({"OTEL_EXPORTER_OTLP_TIMEOUT": "1000", "OTEL_BSP_EXPORT_TIMEOUT": "1000"}, receiver=ours()):
        # The trap: who follows sends there what was not meant for it.
        trap = await ours().start()
        for mode in [*modes, f"status 307 Location: http://127.0.0.1:{trap.port}/v1/traces"]:
            await stage.receiver.be("ok")
            before, memory, known = await lost(stage.gateway), stage.gateway.memory(), len(stage.receiver.requests())
            await stage.receiver.be(mode)
            since = time.monotonic()
            for _ in range(3):
                must((await stage.call("/api/v1/x")).status == 200, f"{mode}: a call fails")
            took = time.monotonic() - since
            must(took < 1, f"{mode}: three calls take {took:.2f} s")
            if mode not in ("down", "deaf"):
                await stage.receiver.until(lambda known=known: len(stage.receiver.requests()) > known, f"{mode}: no export is tried")
            await asyncio.sleep(2.5)
            asked = len(stage.receiver.requests()) - known
            after = await lost(stage.gateway)
            must(asked <= 8, f"{mode}: {asked} requests in 2.5 s")
            if mode != "nonsense":
                counted = after > before
                must(after <= before + 6, f"{mode}: {before} lost before and {after} after, of six spans")
                must(counted, f"{mode}: nothing is counted as lost: {before} before, {after} after")
            must(stage.gateway.memory() < memory + 20, f"{mode}: {memory:.0f} MiB before, {stage.gateway.memory():.0f} after")
            await stage.receiver.be("ok")
            caller = Caller()
            await stage.call("/api/v1/x", caller)
            await stage.receiver.until(lambda caller=caller: stage.server_of(caller), f"{mode}: no span comes when it is over")
            note(f"{mode:42} lost {before:.0f} -> {after:.0f}, requests {asked}")
        must(not trap.requests(), "a redirect was followed, with what is in the spans")
        await trap.end()
        metrics = [line for line in (await stage.gateway.page("/metrics")).splitlines() if line.startswith("omnigate_otlp")]
        note("counted: " + "; ".join(metrics))


@fact
async def a_check_sends_one_span_and_says_what_became_of_it(stage):
    async with stage.set(receiver=ours(), sample="0.0"):
        config = stage.gateway.work / "omnigate.toml"

        async def checked():
            program = await asyncio.create_subprocess_exec(
                stage.omnigate, "check", "--telemetry", config, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
                cwd=stage.gateway.work, env=clean_environment() | {"OMNIGATE_TEST_KEY": omnis.KEY, "OTEL_EXPORTER_OTLP_TIMEOUT": "1000"},
            )  # fmt: skip
            out, _ = await asyncio.wait_for(program.communicate(), 20)
            return program.returncode, out.decode()

        code, said = await checked()
        arrived = stage.receiver.spans()
        if must(code == 0 and len(arrived) == 1, f"check --telemetry: {code}, {len(arrived)} spans, {said}"):
            must(arrived[0].trace in said, f"check --telemetry does not name the trace: {said}")
            for wrong in semconv.of_span(arrived[0]):
                must(False, f"check --telemetry: {wrong}")
        for mode in ("status 503", "status 404", "hole", "down", "partial 1"):
            await stage.receiver.be(mode)
            since = time.monotonic()
            code, said = await checked()
            must(code == 1, f"check --telemetry, {mode}: ends with {code}: {said}")
            must(time.monotonic() - since < 10, f"check --telemetry, {mode}: takes {time.monotonic() - since:.1f} s")
            note(f"check --telemetry, {mode}: {said.strip().splitlines()[-1:]}")


@fact
async def an_order_to_end_sends_what_is_there(stage):
    async with stage.set({"OTEL_BSP_SCHEDULE_DELAY": "60000"}, receiver=ours()):
        callers = [Caller() for _ in range(20)]
        for caller in callers:
            await stage.call("/api/v1/x", caller)
        took = await stage.gateway.end()
        must(stage.gateway.process.returncode == 0, f"it ends with {stage.gateway.process.returncode}")
        must(took < 5, f"it takes {took:.1f} s to end")
        came = sum(bool(stage.server_of(caller)) for caller in callers)
        must(came == 20, f"{came} of 20 traces came when it ended")


async def main():
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, asyncio.current_task().cancel)
    work, omnigate, npm, *names = sys.argv[1:]
    for wrong in semconv.against_the_package():
        must(False, wrong)
    print(f"  {len(semconv.ROWS)} names of the registry {semconv.DOC['version']} are as published", flush=True)
    for one in facts:
        title = one.__name__.replace("_", " ")
        if names and not any(name in one.__name__ for name in names):
            continue
        before, since = len(broken), time.monotonic()
        print(f"  {title}", flush=True)
        try:
            async with asyncio.timeout(120):
                await one(Stage(Path(work), omnigate, npm))
        except (AssertionError, RuntimeError, OSError, EOFError, TimeoutError, asyncio.IncompleteReadError) as error:
            must(False, f"{title}: {error!r}")
        print(f"    {'holds' if len(broken) == before else 'DOES NOT HOLD'}, {time.monotonic() - since:.1f} s", flush=True)
    if semconv.young:
        print(f"  in the registry, but not stable yet: {sorted(semconv.young)}")
    if broken:
        print(f"\ntests/traces: {len(broken)} do not hold:\n- " + "\n- ".join(broken), file=sys.stderr)
        return 1
    print("\ntests/traces: all hold.")
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
