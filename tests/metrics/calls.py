"""Calls of every kind to the gateway at the address that it is told; some 500."""

import sys
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection, HTTPException

HOST, PORT = sys.argv[1].rsplit(":", 1)


def some(number):
    caller = HTTPConnection(HOST, int(PORT), timeout=30)
    who = {"X-Omnigate-Caller": ["crawler", "dashboard", "nobody", "x" * 200][number % 4]}
    for method, target in [
        ("GET", "/api/v1/folders"),
        ("GET", "/api/v1/folders"),
        ("GET", "/api/v1/documents?page=%d" % number),
        ("POST", "/api/v1/query/run"),
        ("DELETE", "/api/v1/labels/%d" % number),
        ("HEAD", "/api/v1/models"),
        ("BREW", "/api/v1/models"),
        ("GET", "/elsewhere/%d" % number),
        ("GET", "/api/v1/models/x?status=404"),
        ("GET", "/api/v1/models/x?status=500"),
        ("GET", "/api/v1/models/x?status=503"),
        ("GET", "/api/v1/limited/x"),
    ]:
        try:
            caller.request(method, target, headers=who)
            caller.getresponse().read()
        except (HTTPException, OSError):
            # The gateway ends the connection after some refusals.
            caller.close()
    caller.close()


with ThreadPoolExecutor(8) as pool:
    list(pool.map(some, range(40)))
