"""The baseline: uvicorn with an application that only reads the body and answers 204.

It is served as the API is: one process, uvloop, httptools, no access log, no date or server header. The difference to
Track is the cost of our code. To run it alone: ``python -m hitcounter_benchmark.bare PORT``.
"""

import sys
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

import uvicorn

Message = MutableMapping[str, Any]  # the shape of ASGI itself

_START: Final = {"type": "http.response.start", "status": 204, "headers": []}
_END: Final = {"type": "http.response.body", "body": b""}


async def answer(
    scope: Message, receive: Callable[[], Awaitable[Message]], send: Callable[[Message], Awaitable[None]]
) -> None:
    """Read the whole body, answer 204."""
    assert scope["type"] == "http"  # noqa: S101 -- lifespan is off
    body = b""
    is_more = True
    while is_more:
        message = await receive()
        body += message.get("body", b"")
        is_more = message.get("more_body", False)
    await send(_START)
    await send(_END)


def main(port: int) -> None:
    """Serve until SIGTERM."""
    uvicorn.run(
        answer,
        host="127.0.0.1",
        port=port,
        loop="uvloop",
        http="httptools",
        lifespan="off",
        access_log=False,
        date_header=False,
        server_header=False,
        log_level="warning",
    )


if __name__ == "__main__":
    main(int(sys.argv[1]))
