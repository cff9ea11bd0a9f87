"""Twenty workers with `httpx`, asynchronous, otherwise as crew_requests.py.

    crew_httpx.py CALLS
"""

import asyncio
import os
import sys

import httpx

BASE = os.environ["OMNI_BASE_URL"]
KEY = os.environ["OMNI_API_KEY"]
WORKERS = 20


async def work(client: httpx.AsyncClient, calls: range) -> list[str]:
    bad = []
    for call in calls:
        answer = await client.get("/api/v1/folders", params={"pageSize": 20, "crew": f"httpx-{call}"})
        if answer.status_code != 200 or "records" not in answer.json():
            bad.append(f"{call}: {answer.status_code} {answer.text[:200]}")
    return bad


async def main() -> int:
    calls = int(sys.argv[1])
    # Its own 5 s are too short for anybody who waits for a turn.
    patient = httpx.Timeout(300)
    headers = {"Authorization": f"Bearer {KEY}"}
    async with httpx.AsyncClient(base_url=BASE, headers=headers, timeout=patient) as client:
        crew = [work(client, range(at, calls, WORKERS)) for at in range(WORKERS)]
        bad = [line for lines in await asyncio.gather(*crew) for line in lines]
    print("\n".join(bad) or f"httpx: {calls} calls, all answered")
    return bool(bad)


sys.exit(asyncio.run(main()))
