"""Verifies ``SDK-HMAC-SHA256`` signatures, written from the algorithm's facts alone.

It shares no code with the service's own signer and verifier, so that each can check the other.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections.abc import Callable
from urllib.parse import quote, unquote

from wharfinger.testing.faults import Asked

ALGORITHM = "SDK-HMAC-SHA256"
_WINDOW = dt.timedelta(minutes=15)
_AUTHORIZATION = re.compile(
    r"SDK-HMAC-SHA256 Access=([^,\s]+), ?SignedHeaders=([^,\s]+), ?Signature=([0-9a-f]{64})"
)
_ALWAYS_SIGNED = {"host", "x-sdk-date"}
_UNSIGNED = "UNSIGNED-PAYLOAD"
_SIGNED_TYPES = ("application/json", "application/bson")
_SIGNED_IF_SENT = {"x-project-id", "x-domain-id", "x-security-token", "x-sdk-content-sha256"}


class SignatureRefusedError(Exception):
    """The request is not signed, or not by the key it names. The text is the gateway's detail."""


def verify_signature(
    asked: Asked, secret_of: Callable[[str], str | None], *, now: dt.datetime
) -> str:
    """The access key that signed this request.

    Args:
        asked: the request with its raw path and query.
        secret_of: the secret key of an access key, ``None`` for an unknown one.
        now: the server's time; ``X-Sdk-Date`` may differ by 15 minutes.

    Raises:
        SignatureRefusedError: anything that is not a whole and fitting signature.
    """
    parts = _AUTHORIZATION.fullmatch(asked.headers.get("authorization", ""))
    if parts is None:
        raise SignatureRefusedError("the Authorization header is not an SDK-HMAC-SHA256 signature")
    access_key, signed, signature = parts.groups()
    names = signed.split(";")
    _check_names(asked, names)
    _check_date(asked.headers["x-sdk-date"], now)
    _check_body(asked)
    secret = secret_of(access_key)
    if secret is None:
        raise SignatureRefusedError("Get secretKey failed,ak:***,err:ak not exist")
    if not hmac.compare_digest(expected_signature(asked, names, secret), signature):
        raise SignatureRefusedError("verify aksk signature fail")
    return access_key


def expected_signature(asked: Asked, signed_names: list[str], secret: str) -> str:
    """The signature this request must carry, in hexadecimal."""
    canonical = "\n".join(
        [
            asked.method.upper(),
            canonical_path(asked.path),
            canonical_query(asked.query),
            "".join(f"{name}:{asked.headers[name].strip()}\n" for name in signed_names),
            ";".join(signed_names),
            _payload_hash(asked),
        ]
    ).encode("utf-8", "surrogateescape")
    text = f"{ALGORITHM}\n{asked.headers['x-sdk-date']}\n{hashlib.sha256(canonical).hexdigest()}"
    return hmac.new(secret.encode(), text.encode(), hashlib.sha256).hexdigest()


def canonical_path(path: str) -> str:
    """The raw path with every segment decoded and encoded again, ending in ``/``."""
    encoded = "/".join(quote(segment, safe="~") for segment in unquote(path).split("/"))
    return encoded if encoded.endswith("/") else encoded + "/"


def canonical_query(query: str) -> str:
    """The raw query's pairs, sorted before they are encoded."""
    pairs = []
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        pairs.append((unquote(name), unquote(value)))
    return "&".join(f"{quote(n, safe='~')}={quote(v, safe='~')}" for n, v in sorted(pairs))


def _check_names(asked: Asked, names: list[str]) -> None:
    sent = [name for name, _ in asked.header_pairs]
    if names != sorted(set(names)) or any(name != name.lower() for name in names):
        raise SignatureRefusedError("SignedHeaders must be in lower case, sorted, each once")
    if any(sent.count(name) > 1 for name in names):
        raise SignatureRefusedError("a signed header is sent twice")
    if missing := set(names) - set(sent):
        raise SignatureRefusedError(f"signed header not sent: {min(missing)}")
    required = _ALWAYS_SIGNED | (_SIGNED_IF_SENT & set(sent))
    if asked.body:
        required |= {"content-type"} & set(sent)
    if missing := required - set(names):
        raise SignatureRefusedError(f"header must be signed: {min(missing)}")


def _check_date(stamp: str, now: dt.datetime) -> None:
    try:
        signed_at = dt.datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=dt.UTC)
    except ValueError:
        raise SignatureRefusedError("X-Sdk-Date must be YYYYMMDDTHHMMSSZ") from None
    if abs(now - signed_at) > _WINDOW:
        raise SignatureRefusedError("X-Sdk-Date differs from the server's time by over 15 minutes")


def _check_body(asked: Asked) -> None:
    claimed = asked.headers.get("x-sdk-content-sha256")
    honest = {None, hashlib.sha256(asked.body).hexdigest()}
    # The official signer leaves bodies unsigned that are not JSON; for JSON nobody may.
    if not asked.headers.get("content-type", "application/json").startswith(_SIGNED_TYPES):
        honest.add(_UNSIGNED)
    if claimed not in honest:
        raise SignatureRefusedError("X-Sdk-Content-Sha256 is not the hash of the body")


def _payload_hash(asked: Asked) -> str:
    if asked.body and asked.headers.get("x-sdk-content-sha256") == _UNSIGNED:
        return _UNSIGNED
    return hashlib.sha256(asked.body).hexdigest()
