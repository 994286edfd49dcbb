"""Huawei Cloud's SDK-HMAC-SHA256 request signature, for signing calls and for checking them."""

from __future__ import annotations

import datetime as dt
import functools
import hashlib
import hmac
import re
from collections.abc import Collection, Sequence
from urllib.parse import quote, unquote, unquote_plus

from wharfinger.domain.errors import NotAuthenticatedError

ALGORITHM = "SDK-HMAC-SHA256"
DATE_FORMAT = "%Y%m%dT%H%M%SZ"
UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
CONTENT_HASH_HEADER = "x-sdk-content-sha256"

_SIGNED_CONTENT_TYPES = ("application/json", "application/bson")

# What means itself in a path, however often it is decoded and encoded.
_UNRESERVED = re.compile(r"[A-Za-z0-9._~/-]*")
_HASH_OF_NOTHING = hashlib.sha256().hexdigest()


def canonical_path(raw_path: str) -> str:
    """Return the path as it is signed: every segment decoded and encoded again, ``/`` at the end.

    ``raw_path`` is percent-encoded as on the wire, without the query. Distinct wire forms
    (``%2F`` and ``/``, a final ``/`` or none) have the same canonical form, so a server must
    route on what it verified.
    """
    path = raw_path if _UNRESERVED.fullmatch(raw_path) else _encoded_again(raw_path)
    return path if path.endswith("/") else path + "/"


def _encoded_again(raw_path: str) -> str:
    segments = unquote(raw_path, errors="surrogateescape").split("/")
    return "/".join(_encode(segment) for segment in segments)


# A sync signs the same few queries thousands of times.
@functools.lru_cache(maxsize=64)
def canonical_query(raw_query: str) -> str:
    """Return the query as it is signed: pairs sorted while decoded, then encoded.

    A ``+`` is read as a blank, because that is how every server reads the value afterwards.
    """
    return "&".join(f"{_encode(key)}={_encode(value)}" for key, value in query_pairs(raw_query))


def query_pairs(raw_query: str) -> list[tuple[str, str]]:
    """Return the decoded pairs of a query in the order in which they are signed."""
    pairs = (part.partition("=") for part in raw_query.split("&") if part)
    return sorted((_decode_plus(key), _decode_plus(value)) for key, _, value in pairs)


def canonical_request(
    *,
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Sequence[tuple[str, str]],
    signed_headers: Sequence[str],
    payload: str,
) -> str:
    """Return the canonical request.

    Args:
        method: the HTTP method.
        raw_path: the percent-encoded path.
        raw_query: the percent-encoded query without ``?``.
        headers: names and values; values that came as bytes are decoded as UTF-8.
        signed_headers: lower-case names in the order the signature lists them.
        payload: what stands for the body, such as its hash in hex.

    Raises:
        NotAuthenticatedError: a signed header is absent or occurs twice.
    """
    lines = "".join(f"{name}:{_only_value(headers, name)}\n" for name in signed_headers)
    return "\n".join(
        (
            method.upper(),
            canonical_path(raw_path),
            canonical_query(raw_query),
            lines,
            ";".join(signed_headers),
            payload,
        )
    )


def payload_hash(
    headers: Sequence[tuple[str, str]], signed_headers: Collection[str], body: bytes
) -> str:
    """Return what stands for the body: its own SHA-256 in hex, whatever a header claims.

    The one exception is ``UNSIGNED-PAYLOAD`` for a content type that the SDK never signs, and
    only while both headers are signed themselves: believing the header for JSON would let a
    changed body pass.
    """
    if body and {CONTENT_HASH_HEADER, "content-type"} <= set(signed_headers):
        claimed = _only_value(headers, CONTENT_HASH_HEADER)
        content_type = _only_value(headers, "content-type").lower()
        if claimed == UNSIGNED_PAYLOAD and not content_type.startswith(_SIGNED_CONTENT_TYPES):
            return UNSIGNED_PAYLOAD
    return hashlib.sha256(body).hexdigest() if body else _HASH_OF_NOTHING


def string_to_sign(request: str, date_header: str) -> str:
    """Return the text that is signed for a canonical request and an ``X-Sdk-Date`` value."""
    return f"{ALGORITHM}\n{date_header}\n{hashlib.sha256(_bytes(request)).hexdigest()}"


def signature(secret_key: str, text: str) -> str:
    """Return the signature of ``text`` in hex."""
    return hmac.digest(_bytes(secret_key), _bytes(text), "sha256").hex()


def expected_signature(
    *,
    method: str,
    raw_path: str,
    raw_query: str,
    headers: Sequence[tuple[str, str]],
    signed_headers: Sequence[str],
    body: bytes,
    secret_key: str,
    date_header: str,
) -> str:
    """Return the signature that a request with these parts must carry, in hex.

    It is for the caller to check the clock, to demand that ``host`` and ``x-sdk-date`` are among
    the signed headers, and to compare in constant time.

    Raises:
        NotAuthenticatedError: a signed header is absent or occurs twice.
    """
    request = canonical_request(
        method=method,
        raw_path=raw_path,
        raw_query=raw_query,
        headers=headers,
        signed_headers=signed_headers,
        payload=payload_hash(headers, signed_headers, body),
    )
    return signature(secret_key, string_to_sign(request, date_header))


def sign(  # noqa: PLR0913 - each part of a request is signed on its own
    *,
    method: str,
    host: str,
    raw_path: str,
    raw_query: str,
    headers: Sequence[tuple[str, str]],
    body: bytes,
    access_key: str,
    secret_key: str,
    at: dt.datetime,
) -> list[tuple[str, str]]:
    """Return the headers to add to an outgoing request: host, date and ``Authorization``.

    ``host`` is the ``Host`` header's value (with the port where it is not the scheme's own) and
    ``at`` an aware time. All given headers are signed but those with ``_`` in their names, which
    proxies drop.
    """
    date = at.astimezone(dt.UTC).strftime(DATE_FORMAT)
    added = [("Host", host), ("X-Sdk-Date", date)]
    content_type = next((value for name, value in headers if name.lower() == "content-type"), "")
    if content_type and not content_type.startswith(_SIGNED_CONTENT_TYPES):
        added.append(("X-Sdk-Content-Sha256", UNSIGNED_PAYLOAD))
    everything = [*headers, *added]
    signed_headers = sorted(name.lower() for name, _ in everything if "_" not in name)
    value = expected_signature(
        method=method,
        raw_path=raw_path,
        raw_query=raw_query,
        headers=everything,
        signed_headers=signed_headers,
        body=body,
        secret_key=secret_key,
        date_header=date,
    )
    names = ";".join(signed_headers)
    authorization = f"{ALGORITHM} Access={access_key}, SignedHeaders={names}, Signature={value}"
    return [*added, ("Authorization", authorization)]


def _only_value(headers: Sequence[tuple[str, str]], wanted: str) -> str:
    values = [value for name, value in headers if name.lower() == wanted]
    if len(values) != 1:
        how = "missing" if not values else "repeated"
        raise NotAuthenticatedError(f"the signed header {wanted!r} is {how}")
    return values[0].strip()


def _encode(text: str) -> str:
    return quote(text, safe="~", errors="surrogateescape")


def _decode_plus(text: str) -> str:
    return unquote_plus(text, errors="surrogateescape")


def _bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")
