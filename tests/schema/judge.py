"""Judges the schema of the config; see run."""

import glob
import json
import sys
import tomllib

import jsonschema

with open(sys.argv[1], encoding="utf-8") as file:
    schema = json.load(file)
jsonschema.Draft7Validator.check_schema(schema)
validator = jsonschema.Draft7Validator(schema)
wrong = []


def hold(fact, what):
    if not fact:
        wrong.append(what)


def read(path):
    with open(path, "rb") as file:
        return tomllib.load(file)


def mistakes(config):
    """Where each is, and which rule it breaks."""
    found = validator.iter_errors(config)
    return sorted({(".".join(map(str, one.absolute_path)), one.validator) for one in found})


# Every example follows it.
examples = sorted(glob.glob("config/*.toml") + glob.glob("deploy/**/*.toml", recursive=True))
hold(len(examples) >= 9, f"only {len(examples)} examples")
for path in examples:
    hold(not mistakes(read(path)), f"{path}: {mistakes(read(path))}")

# What is wrong in its form is seen, each at its place.
EXPECTED = [
    ("", "additionalProperties"),  # shard
    ("budgets.keys.scope", "enum"),
    ("cache.stale_after_wait", "pattern"),
    ("callers.cluster.rate", "required"),
    ("credentials.leaked", "additionalProperties"),
    ("credentials.org.kind", "enum"),
    ("listeners.0.tls", "required"),
    ("routes.0", "additionalProperties"),
    ("routes.3", "required"),
    ("routes.3.max_body", "type"),
    ("routes.4.priority", "enum"),
    ("server.drain_timeout", "pattern"),
    ("server.header_timeout", "type"),
    ("server.max_connections", "type"),
    ("server.min_body_rate", "type"),
    ("shared.cold_start", "enum"),
    ("telemetry.format", "enum"),
    ("telemetry.otlp", "additionalProperties"),
    ("upstream", "additionalProperties"),
    ("upstream.response_timeout", "pattern"),
]
seen = mistakes(read("tests/check/bad.toml"))
hold(seen == EXPECTED, f"bad.toml: missing {set(EXPECTED) - set(seen)}, too many {set(seen) - set(EXPECTED)}")

# So is a single slip in a config that is good otherwise.
LEAST = """
upstream.base_url = "https://acme.omniapp.co"
vault.backend = "env"
credentials.org = { kind = "organization", secret = "OMNI_API_KEY" }
[[routes]]
name = "all"
path = "/{*rest}"
credential = "org"
"""
hold(not mistakes(tomllib.loads(LEAST)), "the least config")
for line, place, rule in [
    ('budget = "none"', None, None),
    ('budget = ["a", "b"]', None, None),
    ('budget = 7', "routes.0.budget", "anyOf"),
    ('cache = { ttl = "30s" }', None, None),
    ('cache = { tll = "30s" }', "routes.0.cache", "additionalProperties"),
    ('sensitive = "yes"', "routes.0.sensitive", "type"),
    ('timeout = "-1s"', "routes.0.timeout", "pattern"),
    ('max_body = "4MB"', "routes.0.max_body", "pattern"),
    ('impersonation = { pin = "x" }', None, None),
    ('impersonation = { pinn = "x" }', "routes.0.impersonation", "anyOf"),
    ('[budgets.omni]\nlimit = 60.5', "budgets.omni.limit", "type"),
    ('[budgets.omni]\nlimit = -1', "budgets.omni.limit", "minimum"),
    ('[budgets.omni]\nlimit = 4294967296', "budgets.omni.limit", "maximum"),
    ('[vault.providers.x]\npath = "/run"', "vault.providers.x", "required"),
    ('[credentials.b]\nkind = "mcp"\nsecret = { provider = "x", name = "y" }', None, None),
    ('[credentials.b]\nkind = "mcp"', "credentials.b", "required"),
]:
    seen = mistakes(tomllib.loads(LEAST + line))
    expected = [] if rule is None else [(place, rule)]
    hold(seen == expected, f"{line!r}: {seen}")
for section in ["upstream", "credentials", "routes"]:
    config = tomllib.loads(LEAST)
    del config[section]
    hold(mistakes(config) == [("", "required")], f"without {section}: {mistakes(config)}")


# Editors find in it what they show, and nothing that only omnigate understands.
def walk(part, path):
    if isinstance(part, list):
        for one in part:
            walk(one, path)
    if not isinstance(part, dict):
        return
    ours = [key for key in part if key.startswith("x-") or key == "format"]
    hold(not ours, f"{path}: {ours}")
    hold("null" not in (part.get("type") or []), f"{path}: null")
    if "default" in part:
        check = jsonschema.Draft7Validator(part)
        hold(not list(check.iter_errors(part["default"])), f"{path}: its default does not follow it")
    if "properties" in part:
        hold(part.get("additionalProperties") is False, f"{path}: any other key may stand there")
    for key, inner in part.get("properties", {}).items():
        hold(inner.get("description"), f"{path}.{key}: no description")
        walk(inner, f"{path}.{key}")
    for word in ["items", "additionalProperties", "anyOf", "oneOf", "allOf"]:
        walk(part.get(word), path)


walk(schema, "")
budget = schema["properties"]["budgets"]["additionalProperties"]["properties"]
for key, default in [("limit", 60), ("window", "60s"), ("profile", "smooth")]:
    hold(budget[key].get("default") == default, f"budgets.{key}: default {budget[key].get('default')}")
hold("`smooth`" in budget["profile"]["description"], "the words of `profile` are not described")
for section in ["vault", "credentials"]:
    hold('"default"' not in json.dumps(schema["properties"][section]), f"{section}: an example as a default")

for what in wrong:
    print(f"tests/schema/run: {what}", file=sys.stderr)
if wrong:
    sys.exit(1)
print(f"{len(examples)} examples follow the schema, {len(EXPECTED)} mistakes are seen")
