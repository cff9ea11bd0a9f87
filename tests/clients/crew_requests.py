"""Twenty workers with `requests`, as a script of somebody's would have them: it knows an address and a key from
its environment, and nothing of limits. Ends with 1 if any call does not come back with 200.

    crew_requests.py CALLS
"""

import os
import sys
from concurrent.futures import ThreadPoolExecutor

import requests

BASE = os.environ["OMNI_BASE_URL"]
KEY = os.environ["OMNI_API_KEY"]
WORKERS = 20


def work(calls: range) -> list[str]:
    bad = []
    with requests.Session() as session:
        session.headers["Authorization"] = f"Bearer {KEY}"
        for call in calls:
            answer = session.get(f"{BASE}/api/v1/documents", params={"pageSize": 20, "crew": f"requests-{call}"})
            if answer.status_code != 200 or "records" not in answer.json():
                bad.append(f"{call}: {answer.status_code} {answer.text[:200]}")
    return bad


def main() -> int:
    calls = int(sys.argv[1])
    with ThreadPoolExecutor(WORKERS) as crew:
        bad = [line for lines in crew.map(work, (range(at, calls, WORKERS) for at in range(WORKERS))) for line in lines]
    print("\n".join(bad) or f"requests: {calls} calls, all answered")
    return bool(bad)


sys.exit(main())
