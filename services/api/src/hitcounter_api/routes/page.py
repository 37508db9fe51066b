"""GET /: the status page, a single HTML file that calls only this API.

It shows only what /status and the reads return to anyone. Its Content-Security-Policy allows its own script and style,
by their hashes, and requests to this API. So nothing that an id contains can run as a script, and no other server can
be called.
"""

from __future__ import annotations

import hashlib
import re
from base64 import b64encode
from importlib import resources

from fastapi import FastAPI
from fastapi.responses import HTMLResponse

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

    @app.get(PATH, include_in_schema=False)
    async def show_page() -> HTMLResponse:
        return HTMLResponse(page, headers=headers)


def build_policy(page: str) -> str:
    """Return the Content-Security-Policy, which allows only what the page needs."""
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
    """Return the hash of the single element with this tag, for a Content-Security-Policy."""
    (content,) = re.findall(f"<{tag}\\b[^>]*>(.*?)</{tag}>", page, re.DOTALL)
    return f"'sha256-{b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
