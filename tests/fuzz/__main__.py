"""``python -m tests.fuzz``: damaged inputs for every reader, as many or as long as one asks for.

Exit status 0: no finding.  1: findings, each kind shown once with how to make its input again; the inputs are kept.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.fuzz import inputs
from tests.fuzz.targets import TARGETS
from tests.fuzz.worker import Finding, Stretch, Tally

STRETCH = 200  # inputs a process reads before the next one begins
SHOWN = 40


def main() -> int:
    """Run the command line."""
    asked = _arguments()
    chosen = [TARGETS[name] for name in asked.target or TARGETS]
    count = -(-asked.count // len(chosen))
    began_s, tallies = time.monotonic(), {target.name: Tally() for target in chosen}
    ends_s = began_s + asked.seconds if asked.seconds else None
    try:
        for name, tally in _carried_out(chosen, asked, count, ends_s):
            tallies[name].add(tally)
            if sys.stderr.isatty():
                print(f"\r{sum(t.inputs for t in tallies.values()):,} inputs", end="", file=sys.stderr)
    except KeyboardInterrupt:
        print("\nstopped", file=sys.stderr)
    findings = [finding for tally in tallies.values() for finding in tally.findings]
    _print(tallies, time.monotonic() - began_s)
    _keep(findings, asked.keep)
    return 1 if findings else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__.split("\n")[0])
    parser.add_argument("--count", type=int, default=100_000, help="inputs in all (default %(default)s)")
    parser.add_argument("--seconds", type=float, default=0.0, help="end after so long; default when all are read")
    parser.add_argument("--seed", type=int, default=1, help="other inputs (default %(default)s)")
    parser.add_argument("--first", type=int, default=0, help="number of the first input of each target")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1, help="processes (default %(default)s)")
    parser.add_argument("--target", action="append", choices=sorted(TARGETS), help="repeatable; default all")
    parser.add_argument("--keep", type=Path, default=Path("runs/fuzz"), help="folder for inputs that are findings")
    return parser.parse_args()


def _carried_out(
    chosen: list[inputs.Target], asked: argparse.Namespace, count: int, ends_s: float | None
) -> Iterator[tuple[str, Tally]]:
    """Yield the tally of each stretch; as many processes as workers are under way."""
    last = asked.first + count
    waiting = [(t, range(k, min(k + STRETCH, last))) for k in range(asked.first, last, STRETCH) for t in chosen]
    waiting.reverse()
    under_way: dict[int, Stretch] = {}
    try:
        while waiting or under_way:
            while waiting and len(under_way) < asked.workers and (ends_s is None or time.monotonic() < ends_s):
                target, numbers = waiting.pop()
                stretch = Stretch(target, asked.seed, numbers)
                under_way[stretch.pid] = stretch
            if not under_way:
                return
            pid, status = os.wait()
            stretch = under_way.pop(pid)
            tally, done = stretch.result(status)
            if done < len(stretch.numbers):  # the process died: go on behind the input that ended it
                waiting.append((stretch.target, stretch.numbers[done:]))
            yield stretch.target.name, tally
    finally:
        for pid in under_way:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _print(tallies: dict[str, Tally], took_s: float) -> None:
    head = ("target", "inputs", "read", "refused", "findings", "slowest s", "largest MB")
    print(("{:14}" + "{:>12}" * 6).format(*head))
    for name, t in tallies.items():
        cells = (t.inputs, t.read, t.refused, len(t.findings), f"{t.slowest_s:.2f}", f"{t.largest_bytes / 1e6:.0f}")
        print(("{:14}" + "{:>12}" * 6).format(name, *cells))
    total = sum(t.inputs for t in tallies.values())
    print(f"{total:,} inputs in {took_s:,.0f} s, {total / max(took_s, 1e-9):,.0f} a second", end="; ")
    print(f"{sum(len(t.findings) for t in tallies.values()):,} findings")


def _keep(findings: list[Finding], folder: Path) -> None:
    """Print one finding of each kind, and keep its input."""
    kinds: dict[str, list[Finding]] = {}
    for finding in findings:
        kinds.setdefault(f"{finding.target} {finding.kind}", []).append(finding)
    for members in sorted(kinds.values(), key=len, reverse=True)[:SHOWN]:
        one = members[0]
        path = folder / f"{one.target}-{one.seed}-{one.number}"
        files, _ = inputs.make(TARGETS[one.target], inputs.seeds_of(TARGETS[one.target]), one.seed, one.number)
        inputs.write(files, path)
        again = f"--target {one.target} --seed {one.seed} --first {one.number} --count 1"
        print(f"\n{len(members)} × {one.what}\n  {one.file} in {path}; again: {again}")
        print("\n".join(f"  {line}" for line in one.trace.splitlines()[-9:]))
    shutil.rmtree(folder, ignore_errors=True) if folder.exists() and not findings else None


if __name__ == "__main__":
    sys.exit(main())
