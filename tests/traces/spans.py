"""A span as it arrived, the same from either receiver: both print the protocol's messages as JSON."""

import base64
from dataclasses import dataclass, field

import semconv


def value_of(said):
    """Type and value of an `AnyValue`."""
    for key, kind in semconv.TYPES.items():
        if key in said:
            value = said[key]
            if kind == "int":
                value = int(value)
            if kind == "array":
                value = [value_of(one)[1] for one in value.get("values", [])]
            return kind, value
    return (next(iter(said), "nothing"), None)


def attributes_of(said):
    read = {}
    for one in said or []:
        if one["key"] in read:
            raise ValueError(f"{one['key']} is there twice")
        read[one["key"]] = value_of(one.get("value", {}))
    return read


def hexed(said):
    return base64.b64decode(said or "").hex()


@dataclass
class Span:
    name: str
    trace: str
    id: str
    parent: str
    kind: str
    start: int
    end: int
    status: str
    message: str
    attributes: dict
    resource: dict
    scope: dict
    state: str = ""
    flags: int = 0
    links: list = field(default_factory=list)
    events: list = field(default_factory=list)
    schema: str = ""

    def get(self, name):
        return self.attributes.get(name, (None, None))[1]

    @property
    def seconds(self):
        return (self.end - self.start) / 1e9

    def valued(self, value):
        """The names of the attributes that have this value."""
        return [name for name, (_, one) in self.attributes.items() if one == value or one == [value]]


def spans_of(message):
    """The spans of an `ExportTraceServiceRequest`."""
    read = []
    for resource in message.get("resourceSpans", []):
        about = attributes_of(resource.get("resource", {}).get("attributes"))
        for scope in resource.get("scopeSpans", []):
            for one in scope.get("spans", []):
                status = one.get("status") or {}
                span = Span(
                    name=one.get("name", ""),
                    trace=hexed(one.get("traceId")),
                    id=hexed(one.get("spanId")),
                    parent=hexed(one.get("parentSpanId")),
                    kind=str(one.get("kind", "")).removeprefix("SPAN_KIND_"),
                    start=int(one.get("startTimeUnixNano", 0)),
                    end=int(one.get("endTimeUnixNano", 0)),
                    status=str(status.get("code", "UNSET")).removeprefix("STATUS_CODE_"),
                    message=status.get("message", ""),
                    attributes=attributes_of(one.get("attributes")),
                    resource=about,
                    scope=scope.get("scope", {}),
                    state=one.get("traceState", ""),
                    flags=int(one.get("flags", 0)),
                    links=[(hexed(link.get("traceId")), hexed(link.get("spanId"))) for link in one.get("links", [])],
                    events=one.get("events", []),
                    schema=scope.get("schemaUrl", "") or resource.get("schemaUrl", ""),
                )
                read.append(span)
    return read
