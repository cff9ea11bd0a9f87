"""Measures what tracing costs: gateways that trace no call, one call in a hundred, and every call, beside a second
one that traces none.

    overhead.py WORK OMNIGATE [flood]

All stand side by side and are asked 1,500 times a second, in turns of half a second: so many that a call costs
little, and so few that every span is exported, which counts too. The upstream is cheap and the log says nothing,
so that a call has little else to cost. With `flood` they are asked as much as they can answer; then a call costs
least, and spans for which there is no room are dropped. Ends with 1 if a bound does not hold.
"""

import asyncio
import statistics
import sys
from pathlib import Path

from gateway import Gateway, ours
from trouble import Program, ratio, uncertain

HERE = Path(__file__).parent
ROUNDS, SECONDS, RATE, CONNECTIONS = 32, 0.5, 1500, 16
FLOOD = sys.argv[3:] == ["flood"]
# The share of calls that is traced, and what it may cost.
ARMS = {"off": (None, None), "off again": (None, None), "1 %": (0.01, 0.03), "100 %": (1.0, 0.25)}


def order(port, seconds):
    return f"flood {port} {CONNECTIONS} {seconds}" if FLOOD else f"steady {port} {RATE} {seconds}"


class Arm:
    def __init__(self, name):
        self.name, (self.sample, self.bound) = name, ARMS[name]
        self.marks, self.calls, self.failed = [], [], 0

    async def start(self, work, omnigate, origin):
        self.receiver = await ours().start() if self.sample else None
        otlp = f'{{ endpoint = "http://127.0.0.1:{self.receiver.port}", sample = {self.sample} }}' if self.sample else None
        self.gateway = await Gateway(omnigate, work, origin, otlp, log="error").start()
        return self

    async def round(self, load):
        """Gives the CPU of the gateway to the round before: what it still sent for that counts there."""
        self.marks.append(self.gateway.cpu())
        said = await load.order(order(self.gateway.port, SECONDS))
        self.calls.append(said["made"])
        self.failed += said["failed"]

    def ended(self):
        marks = [*self.marks, self.gateway.cpu()]
        self.cpu = [(after - before) / calls * 1e6 for before, after, calls in zip(marks, marks[1:], self.calls, strict=False)]


def judged(arms):
    off = arms["off"]
    control = uncertain(arms["off again"], off)
    print(f"\n  {'':10} {'CPU of a call, µs':>26} {'beside off':>10} {'calls':>8} {'spans':>22}")
    broken = []
    for arm in arms.values():
        cpu = f"{statistics.median(arm.cpu):7.1f} ({min(arm.cpu):6.1f} to {max(arm.cpu):6.1f})"
        print(f"  {arm.name:10} {cpu:>26} {ratio(arm, off):+10.1%} {sum(arm.calls):8} {arm.spans:>22}")
        if arm.lost and not FLOOD:
            broken.append(f"{arm.name}: {arm.lost} spans were not exported: {arm.spans}")
        if arm.failed:
            broken.append(f"{arm.name}: {arm.failed} calls failed")
        if arm.bound and ratio(arm, off) > arm.bound + control:
            broken.append(f"{arm.name}: {ratio(arm, off):+.1%}; at most {arm.bound:.0%}, and two that trace nothing are told apart by {control:.1%}")
    print(f"\n  Two that do not trace are told apart by {control:.1%}.")
    return broken


async def main():
    work, omnigate = Path(sys.argv[1]), sys.argv[2]
    origin, load, arms, begun = Program(), Program(), {}, []
    try:
        begun.append(await origin.start(HERE / "omni.py"))
        port = int(await origin.process.stdout.readline())
        begun.append(await load.start(HERE / "load.py"))
        for name in ARMS:
            arms[name] = await Arm(name).start(work, omnigate, port)
        # The first calls of a program are its slowest.
        for arm in arms.values():
            await load.order(order(arm.gateway.port, 1))
        each = list(arms.values())
        for number in range(ROUNDS):
            # Not always after the same one.
            turned = each[number % len(each) :] + each[: number % len(each)]
            for arm in turned if number % 2 == 0 else reversed(turned):
                await arm.round(load)
        for arm in arms.values():
            arm.ended()
            page = await arm.gateway.page("/metrics")
            told = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("omnigate_otlp_spans_total"))
            counts = {name.split("outcome=")[1][1:-2]: int(value) for name, value in told.items()}
            arm.lost = counts.get("dropped", 0) + counts.get("failed", 0)
            arm.spans = " ".join(f"{name} {value}" for name, value in counts.items() if arm.sample)
    finally:
        for arm in arms.values():
            await arm.gateway.end()
            if arm.receiver:
                await arm.receiver.end()
        for one in begun:
            await one.end()
    broken = judged(arms)
    for what in broken:
        print(f"- {what}", file=sys.stderr)
    sys.exit(bool(broken))


if __name__ == "__main__":
    asyncio.run(main())
