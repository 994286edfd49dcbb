"""The comparator: the same HTTP server, with the same bytes for everyone, from memory."""

from __future__ import annotations

import asyncio
import socket
import sys
from pathlib import Path

import uvicorn

from wharfinger.http.connections import ServerConfig
from wharfinger.http.edge import Receive, Scope, Send
from wharfinger.http.limits import Limits

ETAG = b'"in-memory"'


def main(file: str) -> None:
    """Serve the file's bytes until the process is ended."""
    asyncio.run(_serve(Path(file).read_bytes()))


async def _serve(body: bytes) -> None:
    length = str(len(body)).encode()
    whole = [(b"content-type", b"application/json"), (b"content-length", length), (b"etag", ETAG)]
    known = [(b"etag", ETAG)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG001
        has_it = any(name == b"if-none-match" for name, _ in scope["headers"])
        status, headers = (304, known) if has_it else (200, whole)
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": b"" if has_it else body})

    config = ServerConfig(app, host="127.0.0.1", port=0, limits=Limits())
    with socket.create_server(("127.0.0.1", 0)) as listening:
        # Whoever connects from now on waits for the server rather than being refused.
        print(f"listening on http://127.0.0.1:{listening.getsockname()[1]}", flush=True)
        await uvicorn.Server(config).serve(sockets=[listening])


if __name__ == "__main__":
    main(sys.argv[1])
