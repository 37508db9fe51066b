"""Writes the CustomResourceDefinition of the operator into the chart.

    .venv/bin/python tools/crd.py [FILE]

The roof knows no Python, so what it installs is written out; a test fails while it is not what the models say.
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
# release, and neither changes nor removes it afterwards.
"""


def main(arguments: list[str]) -> None:
    """Write it into the file given, that of the chart unless another is."""
    file = Path(arguments[0]) if arguments else CRD
    file.write_text(HEAD + yaml.safe_dump(build_crd(), sort_keys=False, width=120, allow_unicode=True))


if __name__ == "__main__":
    main(sys.argv[1:])
