"""A hook of MkDocs: the README is the first page, decisions get a list, links out of docs/ lead to the repository."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Final

from mkdocs.structure.files import File, Files

ROOT: Final = Path(__file__).parent.parent
REPOSITORY: Final = "https://github.com/OWNER/hitcounter/blob/main/"
"""OWNER is a placeholder: see RELEASE.md."""


def on_files(files: Files, /, *, config: Any) -> Files:
    """Add the README as the first page, and a list of the decision records."""
    records = sorted((ROOT / "docs/decisions").glob("*.md"))
    titles = [f"- [{path.read_text().splitlines()[0].removeprefix('# ')}](decisions/{path.name})" for path in records]
    files.append(File.generated(config, "decisions.md", content="\n".join(["# Decisions", "", *titles, ""])))
    text = (ROOT / "README.md").read_text()
    text = re.sub(r"(\]\(|src=\"|srcset=\")docs/", r"\1", text)
    text = re.sub(r"\]\((?!https?:|#|[\w/-]+\.(?:md|png)|decisions/)", f"]({REPOSITORY}", text)
    text = re.sub(r"\]\(((?:[A-Z]+\.md|charts/\S+?|tools/\S+?|tests/\S+?))\)", rf"]({REPOSITORY}\1)", text)
    files.append(File.generated(config, "index.md", content=text))
    return files


def on_page_markdown(markdown: str, /, *, page: Any, **_: Any) -> str:
    """Let links that leave docs/ lead to the repository."""
    depth = page.file.src_uri.count("/")
    leaving = re.escape("../" * (depth + 1))
    return re.sub(rf"\]\({leaving}(?!\.\./)", f"]({REPOSITORY}", markdown)
