"""A server that answers 204 without parsing: it shows the maximum rate of the load client.

To run it alone: ``python -m hitcounter_benchmark.ceiling PORT``. The suite measures the client with it in the same run.
If the maximum of the client is not well above all other figures, these measured the client and not the server.
"""

import asyncio
import sys
from typing import Final, cast

import uvloop

_ANSWER: Final = b"HTTP/1.1 204 No Content\r\n\r\n"


class Yes(asyncio.Protocol):
    """Takes every read for one whole request: true for a client with one small request in flight."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the way to answer."""
        self._write = cast(asyncio.Transport, transport).write

    def data_received(self, data: bytes) -> None:
        """Answer."""
        self._write(_ANSWER)


async def serve(port: int) -> None:
    """Listen on this machine until cancelled."""
    server = await asyncio.get_running_loop().create_server(Yes, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
