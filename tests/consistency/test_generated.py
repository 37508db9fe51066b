"""What is generated and committed is what the generator would write now."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.consistency.workspace import ROOT, run


@pytest.mark.parametrize("name", ["hit_pb2.py", "hit_pb2.pyi"])
def test_generated_protobuf_module_is_fresh(tmp_path: Path, name: str) -> None:
    run("bash", "tools/generate.sh", tmp_path)
    generated = (tmp_path / "hitcounter" / "v1" / name).read_text()
    committed = (ROOT / "packages/hitcounter/src/hitcounter/v1" / name).read_text()
    assert committed == generated, "run: make generate"


@pytest.mark.parametrize("name", ["configuration.md", "metrics.md"])
def test_document_made_from_the_code_is_fresh(tmp_path: Path, name: str) -> None:
    run(sys.executable, "tools/docgen.py", tmp_path)
    assert (ROOT / "docs" / name).read_text() == (tmp_path / name).read_text(), "run: make generate"


def test_appendix_of_tests_is_fresh(tmp_path: Path) -> None:
    run(sys.executable, "tools/appendix.py", tmp_path / "appendix-tests.md")
    committed = (ROOT / "docs/appendix-tests.md").read_text()
    assert committed == (tmp_path / "appendix-tests.md").read_text(), "run: make generate"


def test_custom_resource_definition_in_the_chart_is_fresh(tmp_path: Path) -> None:
    run(sys.executable, "tools/crd.py", tmp_path / "crd.yaml")
    committed = (ROOT / "charts/hitcounter/crds/hitcounters.yaml").read_text()
    assert committed == (tmp_path / "crd.yaml").read_text(), "run: make generate"
