"""GET /docs: the OpenAPI document as an HTML page, without scripts and without other hosts.

It works without internet access and below a path prefix, because it has only one link, the relative `openapi.json`. Its
Content-Security-Policy allows its own style, by its hash, and nothing else.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from importlib import resources
from string import Template
from typing import Any, Final

import orjson
from fastapi import FastAPI
from fastapi.responses import HTMLResponse

from hitcounter_api.routes.page import hash_of

PATH: Final = "/docs"
_CODE = re.compile(r"`([^`]+)`")
_LIMITS: Final = {
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minimum": "at least {}",
    "maximum": "at most {}",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
}

Json = Mapping[str, Any]


def add_routes(app: FastAPI) -> None:
    """Add the reference page."""

    @functools.cache
    def build() -> tuple[str, Mapping[str, str]]:
        page = render(app.openapi())
        style = hash_of("style", page)
        policy = f"default-src 'none'; img-src data:; style-src {style}; base-uri 'none'; form-action 'none'"
        return page, {
            "Content-Security-Policy": f"{policy}; frame-ancestors 'none'",
            "Cache-Control": "no-cache",
            "Referrer-Policy": "no-referrer",
            "X-Content-Type-Options": "nosniff",
        }

    @app.get(PATH, include_in_schema=False)
    async def show_reference() -> HTMLResponse:
        page, headers = build()
        return HTMLResponse(page, headers=headers)


def render(document: Json) -> str:
    """Return the page of an OpenAPI document."""
    template = resources.files("hitcounter_api").joinpath("reference.html").read_text(encoding="utf-8")
    operations = [
        (method.upper(), path, operation)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    ]
    schemas = document["components"]["schemas"]
    contents = [
        f'<li><a href="#{escape(operation["operationId"])}"><code>{method} {escape(path)}</code></a> '
        f"{escape(operation['summary'])}</li>"
        for method, path, operation in operations
    ]
    contents.append(f"<li>Schemas: {', '.join(map(_link, schemas))}</li>")
    sections = [_render_operation(*operation) for operation in operations]
    sections += [_render_schema(name, schema) for name, schema in schemas.items()]
    return Template(template).substitute(
        title=escape(document["info"]["title"]),
        version=escape(document["info"]["version"]),
        description=_paragraphs(document["info"]["description"]),
        contents="\n".join(contents),
        sections="\n".join(sections),
    )


def _render_operation(method: str, path: str, operation: Json) -> str:
    parts = [f"<h2><code>{method} {escape(path)}</code> {escape(operation['summary'])}</h2>"]
    parts.append(_paragraphs(operation.get("description", "")))
    if parameters := operation.get("parameters"):
        rows = [
            (
                f"<code>{escape(parameter['name'])}</code>",
                escape(parameter["in"]) + (", required" if parameter.get("required") else ""),
                _type_of(parameter["schema"]),
                _text(parameter.get("description", "")),
            )
            for parameter in parameters
        ]
        parts.append("<h3>Parameters</h3>" + _table(("name", "where", "type", "meaning"), rows))
    if body := operation.get("requestBody"):
        parts.append("<h3>Body</h3>" + "".join(_render_content(body["content"])))
    rows = [
        (
            escape(status),
            _text(answer["description"]),
            ", ".join(f"<code>{escape(name)}</code>" for name in answer.get("headers", ())),
            ", ".join(_type_of(content["schema"]) for content in answer.get("content", {}).values()),
        )
        for status, answer in operation["responses"].items()
    ]
    parts.append("<h3>Answers</h3>" + _table(("status", "meaning", "headers", "body"), rows))
    return f'<section id="{escape(operation["operationId"])}">{"".join(parts)}</section>'


def _render_content(content: Json) -> Iterator[str]:
    shown = []
    for media_type, body in content.items():
        yield f"<p><code>{escape(media_type)}</code>: {_type_of(body['schema'])}</p>"
        examples = [example["value"] for example in body.get("examples", {}).values()]
        for example in [*examples, *([body["example"]] if "example" in body else [])]:
            text = example if isinstance(example, str) else orjson.dumps(example).decode()
            if text not in shown:
                shown.append(text)
                yield f"<pre>{escape(text.strip())}</pre>"


def _render_schema(name: str, schema: Json) -> str:
    required = schema.get("required", ())
    rows = [
        (
            f"<code>{escape(field)}</code>" + (" (required)" if field in required else ""),
            _type_of(described),
            _text(described.get("description", "")),
        )
        for field, described in schema.get("properties", {}).items()
    ]
    head = f"<h2>{escape(name)}</h2>{_paragraphs(schema.get('description', ''))}"
    return f'<section id="{escape(name)}">{head}{_table(("field", "type", "meaning"), rows)}</section>'


def _type_of(schema: Json) -> str:
    """Return in a few words, as HTML, what values a schema allows."""
    if "$ref" in schema:
        return _link(schema["$ref"].rpartition("/")[2])
    if "anyOf" in schema:
        return " or ".join(map(_type_of, schema["anyOf"]))
    if "enum" in schema or "const" in schema:
        return " or ".join(f"<code>{escape(str(value))}</code>" for value in schema.get("enum", [schema.get("const")]))
    words = [escape(schema.get("type", "any value"))]
    if "items" in schema:
        words = [f"array of {_type_of(schema['items'])}"]
    if "format" in schema:
        words = [escape(schema["format"])]
    words += [limit.format(f"{schema[name]:,}") for name, limit in _LIMITS.items() if name in schema]
    return ", ".join(words)


def _link(schema: str) -> str:
    return f'<a href="#{escape(schema)}">{escape(schema)}</a>'


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    titles = "".join(f'<th scope="col">{title}</th>' for title in head)
    lines = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="wide"><table><thead><tr>{titles}</tr></thead><tbody>{lines}</tbody></table></div>'


def _paragraphs(text: str) -> str:
    return "".join(f"<p>{_text(paragraph)}</p>" for paragraph in text.split("\n\n") if paragraph)


def _text(text: str) -> str:
    """Return a description as HTML: the only Markdown in ours is code between backticks."""
    return _CODE.sub(r"<code>\1</code>", escape(text))
