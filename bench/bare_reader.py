"""The yardstick of the wire in Python: aiohttp over a list of URLs, nothing parsed or kept.

Run as ``python -m bench.bare_reader URLS_FILE CONNECTIONS``; the seconds go to standard output.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp


async def read_all(urls: list[str], connections: int) -> float:
    """Seconds to fetch every URL over so many connections."""
    connector = aiohttp.TCPConnector(limit=connections)
    async with aiohttp.ClientSession(connector=connector) as session:
        began = time.perf_counter()
        left = iter(urls)
        await asyncio.gather(*(_reader(session, left) for _ in range(connections)))
        return time.perf_counter() - began


async def _reader(session: aiohttp.ClientSession, left: Iterator[str]) -> None:
    for url in left:
        async with session.get(url) as response:
            response.raise_for_status()
            await response.read()


def main(urls_file: str, connections: str) -> None:
    urls = Path(urls_file).read_text("utf-8").splitlines()
    print(asyncio.run(read_all(urls, int(connections))))


if __name__ == "__main__":
    main(*sys.argv[1:])
