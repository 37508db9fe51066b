"""GET /livez on the traffic port, for load balancers that can probe only the port to which they send requests.

It calls no other server. /readyz on the management port reports whether this process has reached Redis.
"""

from __future__ import annotations

from fastapi import FastAPI
from fastapi.responses import PlainTextResponse

PATH = "/livez"


def add_routes(app: FastAPI) -> None:
    """Add the liveness path."""

    @app.get(PATH, include_in_schema=False)
    async def tell() -> PlainTextResponse:
        return PlainTextResponse("alive\n", headers={"Cache-Control": "no-store"})
