"""Describes a failed response of Elasticsearch, or of a proxy in front of it, in one short line. Pure.

The texts appear in /readyz, in the log and in the status of the HitCounter resource, so each part has a maximum length.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

PART_MAX_CHARACTERS: Final = 300
SUPPORTED_MAJOR_VERSIONS: Final = (8, 9)
SUPPORTED: Final = "Elasticsearch 8.x and 9.x are supported"

_HTML: Final = re.compile(r"\s*<(!doctype|html|head|body|center|h1)\b", re.IGNORECASE)


def shorten(text: str) -> str:
    """Return the text on one line, cut to PART_MAX_CHARACTERS."""
    line = " ".join(text.split())
    return line if len(line) <= PART_MAX_CHARACTERS else line[: PART_MAX_CHARACTERS - 1] + "…"


def describe_answer(status: int, body: object) -> tuple[str, str]:
    """Return who sent which unexpected response, and details that only operators should see."""
    if isinstance(body, bytes):
        body = body.decode(errors="replace")
    if isinstance(body, str) and _HTML.match(body):
        return f"an HTTP server that is not Elasticsearch, such as a proxy, answered {status} with HTML", ""
    if isinstance(body, Mapping) and isinstance(error := body.get("error"), Mapping):
        return f"Elasticsearch answers {status}", describe_error(error)
    return f"Elasticsearch answers {status}", shorten(str(body))


def describe_error(error: Mapping[str, object]) -> str:
    """Return type and reason of an error, and of its innermost cause."""
    text, cause = _name(error), find_cause(error)
    return f"{text}; caused by {cause}" if cause and cause != text else text


def find_cause(error: Mapping[str, object]) -> str | None:
    """Return type and reason of the innermost cause of an error; None if it has no cause."""
    cause = error
    while isinstance(deeper := cause.get("caused_by"), Mapping):
        cause = deeper
    return None if cause is error else _name(cause)


def _name(error: Mapping[str, object]) -> str:
    return shorten(f"{error.get('type')}: {error.get('reason')}")


def find_unsupported(root: object) -> str | None:
    """Return why the server is not supported, by its response to `GET /`; None if the response does not show that.

    OpenSearch sends `version.distribution`, which Elasticsearch does not have.
    """
    version = root.get("version") if isinstance(root, Mapping) else None
    if not isinstance(version, Mapping):
        return None
    number = shorten(str(version.get("number", "of an unknown version")))
    distribution = str(version.get("distribution", "elasticsearch"))
    if distribution.lower() != "elasticsearch":
        name = "OpenSearch" if distribution.lower() == "opensearch" else shorten(distribution)
        return f"the server is {name} {number}, which is not supported; {SUPPORTED}"
    major = number.partition(".")[0]
    if major.isdigit() and int(major) not in SUPPORTED_MAJOR_VERSIONS:
        return f"the server is Elasticsearch {number}, which is not supported; {SUPPORTED}"
    return None
