"""Where a request came from, and the address that it was sent to: a proxy may stand between."""

from __future__ import annotations

import functools
import ipaddress
import re
from collections.abc import Sequence

from litestar.types import HTTPScope

from wharfinger.domain.model import Origin
from wharfinger.http.scope import REQUEST_ID

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

_LONGEST_AGENT = 128
# An IPv6 address, with an IPv4 address in it and a zone.
_LONGEST_ADDRESS = 64
# As nginx makes its $request_id, and we make ours.
_REQUEST_ID = re.compile(r"[0-9a-f]{32}")
_HOST = re.compile(r"[A-Za-z0-9.-]{1,253}(:\d{1,5})?|\[[0-9A-Fa-f:.]{2,45}\](:\d{1,5})?")


def source_address(scope: HTTPScope, proxies: Sequence[Network]) -> str:
    """The address of whoever sent the request.

    Only a proxy of ours is believed what it says in ``X-Forwarded-For``, and of that only what
    our proxies added: the last address that is not one of theirs.
    """
    client = scope.get("client")
    peer = client[0] if client else ""
    if not _is_within(peer, proxies):
        return peer
    said = _header(scope, b"x-forwarded-for").split(",")
    for hop in reversed([one.strip() for one in said if one.strip()]):
        if not _is_address(hop):
            break
        peer = hop
        if not _is_within(hop, proxies):
            break
    return peer


def origin_of(scope: HTTPScope, proxies: Sequence[Network]) -> Origin:
    """From where a request came, for the audit."""
    return Origin(
        source=source_address(scope, proxies),
        user_agent=_header(scope, b"user-agent")[:_LONGEST_AGENT],
        request_id=str(scope.get(REQUEST_ID, "")),
    )


def known_request_id(scope: HTTPScope, proxies: Sequence[Network]) -> str | None:
    """The id that a proxy of ours has given to a request; nobody else's word is taken for it.

    A caller who chose the id could have somebody else's in the audit.
    """
    client = scope.get("client")
    given = _header(scope, b"x-request-id")
    if client and _REQUEST_ID.fullmatch(given) and _is_within(client[0], proxies):
        return given
    return None


def own_address(scope: HTTPScope, proxies: Sequence[Network]) -> str:
    """Our own address as the caller knows it, such as ``https://hss.example``."""
    client = scope.get("client")
    scheme = scope["scheme"]
    if client and _is_within(client[0], proxies):
        said = _header(scope, b"x-forwarded-proto").strip().lower()
        scheme = said if said in ("http", "https") else scheme
    host = _header(scope, b"host")
    if not _HOST.fullmatch(host):
        name, port = scope.get("server") or ("localhost", None)
        host = f"{name}:{port}" if port else name
    return f"{scheme}://{host}"


def _header(scope: HTTPScope, wanted: bytes) -> str:
    values = [value for name, value in scope["headers"] if name.lower() == wanted]
    return b",".join(values).decode("latin-1")


def _is_address(text: str) -> bool:
    return _address(text) is not None


def _is_within(text: str, networks: Sequence[Network]) -> bool:
    address = _address(text)
    return address is not None and any(address in one for one in networks)


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    return _parsed(text) if len(text) <= _LONGEST_ADDRESS else None


# Each request asks several times, and callers come back.
@functools.lru_cache(maxsize=1024)
def _parsed(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None
