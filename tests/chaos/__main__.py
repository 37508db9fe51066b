"""`python -m tests.chaos`: a run by hand, as long and as hard as one likes; `make chaos` calls it.

Exits with 0 if no check complains, else with 1. Data and logs of a bad run are kept.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from tests.chaos.run import Plan, run
from tests.chaos.schedule import GAP_SECONDS


def main() -> int:
    """Do one run and print its report."""
    options = _parse()
    plan = Plan(options.seed, options.duration, options.rate, options.gap)
    _write(f"seed {plan.seed}: {plan.duration_seconds:g} s at {plan.rate:g} hits/s, with these faults:\n")
    _write("".join(f"  {fault}\n" for fault in plan.build_schedule()))
    if options.only_schedule:
        return 0
    report = run(plan, _write)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    _write(f"{report.render()}\n")
    return 0 if report.is_good else 1


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="replays a schedule")
    parser.add_argument("--duration", type=float, default=90.0, metavar="SECONDS", help="of the load (default: 90)")
    parser.add_argument("--rate", type=float, default=1000.0, metavar="HITS", help="a second (default: 1000)")
    parser.add_argument("--gap", type=float, default=GAP_SECONDS, metavar="SECONDS", help="between two faults, mean")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--only-schedule", action="store_true", help="print the faults and stop")
    return parser.parse_args()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
