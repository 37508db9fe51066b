"""`python -m tests.soak`: a soak by hand; `make soak` calls it.

Exits with 0 if every promise held, with 1 if one did not, with 3 if only other work on this machine may be to blame.
Data and logs of a run that is not good are kept.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path

from tests.soak.plan import Plan, build_short, build_soak
from tests.soak.run import RATE, run


def main() -> int:
    """Do one run and print its report."""
    options = _parse()
    plan: Plan = (
        build_short(options.seed, options.rate)
        if options.short
        else build_soak(options.seed, options.rate, options.duration)
    )
    _write(f"{plan.command}: {plan.duration_seconds:g} s at {plan.rate:g} hits/s, with these faults:\n")
    _write("".join(f"  {fault}\n" for fault in plan.faults))
    if options.only_schedule:
        return 0
    report = run(plan, _write, commit=options.commit)
    if options.json is not None:
        options.json.parent.mkdir(parents=True, exist_ok=True)
        options.json.write_text(json.dumps(report.as_json(), indent=2) + "\n")
    _write(f"{report.render()}\n")
    return report.exit_code


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--seed", type=int, default=random.randrange(1_000_000), help="replays a schedule")
    parser.add_argument("--duration", type=float, default=1200.0, metavar="SECONDS", help="of the load (default: 1200)")
    parser.add_argument("--rate", type=float, default=RATE, metavar="HITS", help=f"a second (default: {RATE:g})")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the report there, too")
    parser.add_argument("--short", action="store_true", help="the short form that is part of make test")
    parser.add_argument("--commit", help="run the APIs and indexers of this commit in place of the present ones")
    parser.add_argument("--only-schedule", action="store_true", help="print the faults and stop")
    return parser.parse_args()


def _write(text: str) -> None:
    sys.stdout.write(text)
    sys.stdout.flush()


if __name__ == "__main__":
    raise SystemExit(main())
