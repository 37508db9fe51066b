"""Writes the CustomResourceDefinition of the operator into the chart.

    .venv/bin/python tools/crd.py [FILE]

The chart knows no Python, so the CRD is a file. A test fails if the file differs from the models.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import yaml
from hitcounter_operator.crd import build_crd

CRD: Final = Path(__file__).parents[1] / "charts/hitcounter/crds/hitcounters.yaml"
HEAD: Final = """\
# Written by tools/crd.py (`make generate`) from the models in services/operator. Helm installs it with the first
# release. It never updates or deletes it afterwards.
"""


def main(arguments: list[str]) -> None:
    """Write the CRD into the given file, by default the one of the chart."""
    file = Path(arguments[0]) if arguments else CRD
    file.write_text(HEAD + yaml.safe_dump(build_crd(), sort_keys=False, width=120, allow_unicode=True))


if __name__ == "__main__":
    main(sys.argv[1:])
