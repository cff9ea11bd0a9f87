"""What the published registry of semantic conventions says of names, types and values; and what a span makes of it.

Names and allowed values are in a package, the types are not: `semconv.json` has the rows of the registry
that HTTP spans and resources use, and `against_the_package` holds them to what is published.
"""

import enum
import importlib
import json
import pkgutil
from pathlib import Path

DOC = json.loads((Path(__file__).parent / "semconv.json").read_text())
ROWS = DOC["attributes"]
# What we name ourselves, and what Omni does.
OURS = ("omnigate.", "omni.")
# The types of `AnyValue` in the protocol, as the registry calls them.
TYPES = {"stringValue": "string", "intValue": "int", "boolValue": "boolean", "doubleValue": "double", "arrayValue": "array"}
# Names that were seen and may still change: not wrong, but to be known of.
young = set()
KNOWN = ("CONNECT", "DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT", "TRACE", "QUERY")


def published():
    """The names in the package, stable and not, and the values of each that has a list of them."""
    found = {"stable": {}, "development": {}}
    for stability, root in (("stable", "opentelemetry.semconv.attributes"), ("development", "opentelemetry.semconv._incubating.attributes")):
        package = importlib.import_module(root)
        for module in pkgutil.iter_modules(package.__path__):
            said = vars(importlib.import_module(f"{root}.{module.name}"))
            for name, value in said.items():
                if name.isupper() and isinstance(value, str):
                    words = "".join(part.capitalize() for part in name.removesuffix("_TEMPLATE").split("_")) + "Values"
                    kinds = said.get(words)
                    listed = isinstance(kinds, type) and issubclass(kinds, enum.Enum)
                    found[stability][value] = {one.value for one in kinds} if listed else None
    return found


def against_the_package():
    """How our rows differ from the package, and which names in it speak of the same version."""
    from opentelemetry.semconv.schemas import Schemas

    wrong, found = [], published()
    if DOC["schema_url"] not in {one.value for one in Schemas}:
        wrong.append(f"the package does not know {DOC['schema_url']}")
    for name, row in ROWS.items():
        where = found["stable" if row["stability"] == "stable" else "development"]
        if name not in where:
            wrong.append(f"{name}: the package has it not among its {row['stability']} names")
            continue
        values = where[name]
        if "values" in row and values is not None:
            # A value in development is not among the stable ones.
            missing = values - set(row["values"])
            if missing:
                wrong.append(f"{name}: the package has {sorted(missing)} besides")
    return wrong


def row_of(name):
    """The row of a name, also of one that a template stands for."""
    if name in ROWS:
        return ROWS[name]
    for template in ("http.request.header", "http.response.header"):
        if name.startswith(template + "."):
            return ROWS[template]
    return None


def of_attributes(attributes, where):
    """What is wrong with these names, types and values; `where`: server, client, resource, or none."""
    wrong = []
    for name, (kind, value) in attributes.items():
        if name.startswith(OURS):
            if kind not in ("string", "int", "boolean", "double"):
                wrong.append(f"{name} is of type {kind}")
            continue
        row = row_of(name)
        if row is None:
            wrong.append(f"{name} is in no registry")
            continue
        expected = "array" if row["type"] == "template[string[]]" else row["type"]
        if kind != expected:
            wrong.append(f"{name} is of type {kind}, the registry says {expected}")
        if row["stability"] != "stable":
            young.add(name)
        if "values" in row and not row.get("open") and value not in row["values"]:
            wrong.append(f"{name} is {value!r}, none of the values that there are")
        if where and where not in row:
            wrong.append(f"{name} is no attribute of a {where}")
    return wrong


def of_span(span):
    """Everything that the registry and its rules for HTTP spans have against a span."""
    where = {"SERVER": "server", "CLIENT": "client"}.get(span.kind)
    wrong = of_attributes(span.attributes, where)
    wrong += [f"resource: {one}" for one in of_attributes(span.resource, "resource")]
    if where is None:
        if span.kind != "INTERNAL":
            wrong.append(f"kind {span.kind}")
        return [f"{span.name}: {one}" for one in wrong]

    if any(" is of type " in one for one in wrong):
        # The rest reads values.
        return [f"{span.name}: {one}" for one in wrong]
    for name, row in ROWS.items():
        if row.get(where) == "required" and name not in span.attributes:
            wrong.append(f"{name} is required and not there")
    status, error = span.get("http.response.status_code"), span.get("error.type")
    method, original = span.get("http.request.method"), span.get("http.request.method_original")
    failed = status is not None and (status >= 500 or (where == "client" and status >= 400))
    if failed and span.status != "ERROR":
        wrong.append(f"status {status} and span status {span.status}")
    if failed and error is None:
        wrong.append(f"status {status} and no error.type")
    if span.status == "ERROR" and error is None:
        wrong.append("span status ERROR and no error.type")
    if span.status == "OK":
        # Left to who runs the program.
        wrong.append("span status OK")
    if error is not None and span.status != "ERROR":
        wrong.append(f"error.type {error} and span status {span.status}")
    if where == "server" and status is not None and 400 <= status < 500 and span.status != "UNSET":
        wrong.append(f"a server's status {status} and span status {span.status}")
    if failed and span.message:
        wrong.append(f"a description that the status code says: {span.message!r}")
    # `_OTHER` should be said with its original, which is a caller's text; ours are not to have any.
    if method == "_OTHER" and original is not None:
        wrong.append("http.request.method_original is a caller's text")
    if method in KNOWN and original in (method,):
        wrong.append("http.request.method_original says the same as http.request.method")
    target = span.get("http.route") if where == "server" else None
    word = "HTTP" if method == "_OTHER" else method
    good = {word} if target is None else {f"{word} {target}"}
    if where == "client":
        good |= {f"{word} {span.get('url.template')}"} if span.get("url.template") else set()
    if span.name not in good:
        wrong.append(f"named {span.name!r}, not {' or '.join(sorted(map(str, good)))}")
    if (resent := span.get("http.request.resend_count")) is not None and resent < 1:
        wrong.append(f"http.request.resend_count is {resent}")
    if "network.peer.port" in span.attributes and "network.peer.address" not in span.attributes:
        wrong.append("network.peer.port without network.peer.address")
    if where == "server" and "server.port" in span.attributes and "server.address" not in span.attributes:
        wrong.append("server.port without server.address")
    if (full := span.get("url.full")) is not None and ("://" not in full or "@" in full.split("/")[2]):
        wrong.append(f"url.full is {full!r}")
    return [f"{span.name}: {one}" for one in wrong]


if __name__ == "__main__":
    raise SystemExit("\n".join(against_the_package()) or None)
