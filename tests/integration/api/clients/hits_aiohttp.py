"""aiohttp as it comes: a body of a known length, one in chunks, and one that waits to be asked for."""

import asyncio
import sys
from collections.abc import AsyncIterator

import aiohttp

HIT = b'{"id":"aiohttp"}'


async def in_pieces() -> AsyncIterator[bytes]:
    yield HIT[:5]
    yield HIT[5:]


async def main(url: str) -> None:
    async with aiohttp.ClientSession() as session:
        for _ in range(3):
            await send(session, url, HIT)
        await send(session, url, in_pieces())
        await send(session, url, HIT, expect100=True)


async def send(session: aiohttp.ClientSession, url: str, body: object, *, expect100: bool = False) -> None:
    async with session.post(url, data=body, expect100=expect100) as answer:
        sys.stdout.write(f"{answer.status}\n")


asyncio.run(main(sys.argv[1]))
