"""GET /livez on the traffic port, for load balancers that can probe only the port to which they send requests.

It calls no other server. /readyz on the management port reports whether this process has reached Redis.
"""

from __future__ import annotations

from fastapi import FastAPI, Request, Response

PATH = "/livez"


def add_routes(app: FastAPI) -> None:
    """Add the liveness path."""

    async def tell(_request: Request) -> Response:
        return Response(b"alive\n", headers={"Cache-Control": "no-store"}, media_type="text/plain")

    app.add_route(PATH, tell, methods=["GET"], include_in_schema=False)
