"""GET /: the page for people, one file of HTML that asks the rest of this API and nobody else.

It needs no rights that its reader lacks: all it shows, /status and the reads answer as well. Its
Content-Security-Policy allows the one script and the one style that stand in it, by their hashes, and requests to this
API; so nothing that an id may contain can ever run, and nothing can be asked elsewhere.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from importlib import resources

from fastapi import FastAPI, Request, Response

PATH = "/"


def add_routes(app: FastAPI) -> None:
    """Add the page."""
    page = resources.files("hitcounter_api").joinpath("page.html").read_text(encoding="utf-8")
    headers = {
        "Content-Security-Policy": build_policy(page),
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }

    async def show_page(_request: Request) -> Response:
        return Response(page, headers=headers, media_type="text/html")

    app.add_route(PATH, show_page, methods=["GET"], include_in_schema=False)


def build_policy(page: str) -> str:
    """Return the Content-Security-Policy under which the page works, and as good as nothing else does."""
    return "; ".join(
        [
            "default-src 'none'",
            "connect-src 'self'",
            "img-src data:",  # its icon
            f"script-src {hash_of('script', page)}",
            f"style-src {hash_of('style', page)}",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        ]
    )


def hash_of(tag: str, page: str) -> str:
    """Return what a Content-Security-Policy says to allow the one element of this kind in the page."""
    (content,) = re.findall(f"<{tag}\\b[^>]*>(.*?)</{tag}>", page, re.DOTALL)
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
