"""GET /livez on the traffic port: for balancers that can probe no other port than that they send requests to.

It asks no server. Whether this process has reached Redis is /readyz, on the management port.
"""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

PATH = "/livez"


def add_routes(app: FastAPI) -> None:
    """Add the liveness path."""

    async def tell(_request: Request) -> Response:
        return Response(b"alive\n", headers={"Cache-Control": "no-store"}, media_type="text/plain")

    app.add_route(PATH, tell, methods=["GET"], include_in_schema=False)
