"""Read many broken files and count what happens; exit code 1 if anything but a photo or a proper refusal came of one."""

from __future__ import annotations

import argparse
from pathlib import Path

from .run import Report, run


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--count", type=int, default=10_000, help="inputs (default 10,000)")
    parser.add_argument("--seed", type=int, default=0, help="another seed, other inputs (default 0)")
    parser.add_argument("--workers", type=int, default=2, help="processes that read (default 2)")
    parser.add_argument("--seconds", type=float, default=20.0, help="limit for one input (default 20)")
    parser.add_argument("--save", type=Path, metavar="DIR", help="keep the inputs that something else happened to")
    chosen = parser.parse_args()
    report = run(chosen.count, chosen.seed, chosen.workers, chosen.seconds, chosen.save)
    print(described(report))
    return 1 if report.offending else 0


def described(report: Report) -> str:
    lines = [f"{count:7,} {kind}" for kind, count in sorted(report.counts.items(), key=lambda pair: -pair[1])]
    lines += [f"slowest: {report.slowest:.2f} s (input {report.slowest_name})", f"peak memory: {report.peak:,.0f} MB"]
    lines += [f"input {name}: {outcome.kind}: {outcome.words.strip()[-300:]}" for name, outcome in report.offending[:20]]
    return "\n".join(lines)


if __name__ == "__main__":
    raise SystemExit(main())
