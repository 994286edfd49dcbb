"""Turns a raw request into a caller: IAM tokens, SDK-HMAC-SHA256 signatures, or both."""

from __future__ import annotations

import datetime as dt
import hashlib
import hmac
import re
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from wharfinger.domain.errors import NotAuthenticatedError, TokenExpiredError
from wharfinger.domain.model import Caller
from wharfinger.domain.signature import ALGORITHM, DATE_FORMAT, expected_signature
from wharfinger.store.callers import KnownCredential, KnownToken

CLOCK_TOLERANCE = dt.timedelta(minutes=15)
MAX_TOKEN_LENGTH = 32768

# What the SDK can be told to sign with, and we do not check: their pure-Python forms cost 5,000
# times an HMAC, or need an OpenSSL that knows SM3.
_OTHER_ALGORITHMS = (
    "SDK-HMAC-SM3",
    "SDK-ECDSA-P256-SHA256",
    "SDK-SM2-SM3",
    "V11-HMAC-SHA256",
    "V11-HMAC-SM3",
)
_AUTHORIZATION = re.compile(
    r"Access=([!-+\--~]{1,128}),\s*SignedHeaders=([^,\s]+),\s*Signature=([0-9a-fA-F]{64})"
)
# Of a header that occurs twice, the signature may cover one and the reader take the other.
_ONLY_ONCE = frozenset(
    {
        "authorization",
        "content-length",
        "content-type",
        "host",
        "region",
        "x-auth-token",
        "x-domain-id",
        "x-project-id",
        "x-sdk-content-sha256",
        "x-sdk-date",
        "x-security-token",
    }
)


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came: percent-encoded path and query, header fields in their order."""

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes = b""


class KnownCallers(Protocol):
    """Where credentials and tokens are looked up."""

    async def find_credential(self, access_key: str) -> KnownCredential | None:
        """Look an access key up; ``None`` if it is unknown or revoked."""
        ...

    async def find_token(self, token: str) -> KnownToken | None:
        """Look a token up, expired or not; ``None`` if it is unknown or revoked."""
        ...


class Authenticator:
    """Verifies credentials in full; what it does not understand it refuses."""

    def __init__(
        self,
        callers: KnownCallers,
        *,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._callers = callers
        self._clock = clock

    async def authenticate(self, request: RawRequest) -> Caller:
        """Tell who is asking.

        A signature must hold wherever ``Authorization`` names a signing algorithm; an
        ``Authorization`` of any other kind is what SDK users preset to suppress the signature,
        and leaves the token alone. A signature beside a token must agree with it on the project.

        Raises:
            TokenExpiredError: the token was good once.
            NotAuthenticatedError: nothing was given, or something given does not hold.
        """
        headers = _Headers(request.headers)
        signed = await self._signed(request, headers)
        token = await self._token(headers)
        caller = signed or token
        if caller is None:
            raise NotAuthenticatedError("neither X-Auth-Token nor an AK/SK signature was given")
        if signed and token and signed.project_id != token.project_id:
            raise NotAuthenticatedError("the signature and the token are of different projects")
        _check_project(headers, caller)
        return caller

    async def _token(self, headers: _Headers) -> Caller | None:
        token = headers.get("x-auth-token")
        if token is None:
            return None
        if not 1 <= len(token) <= MAX_TOKEN_LENGTH:
            raise NotAuthenticatedError(f"X-Auth-Token must be 1 to {MAX_TOKEN_LENGTH} characters")
        known = await self._callers.find_token(token)
        if known is None:
            raise NotAuthenticatedError("decrypt token fail")
        if known.expires_at <= self._clock():
            raise TokenExpiredError("The token must be updated.")
        return Caller(
            project_id=known.project_id, project_name=known.project_name, principal="token"
        )

    async def _signed(self, request: RawRequest, headers: _Headers) -> Caller | None:
        authorization = headers.get("authorization")
        if authorization is None:
            return None
        algorithm, _, rest = authorization.partition(" ")
        if algorithm in _OTHER_ALGORITHMS:
            raise NotAuthenticatedError(f"{algorithm} is not supported here, use {ALGORITHM}")
        if algorithm != ALGORITHM:
            return None
        claim = _read_claim(rest)
        _check_coverage(claim, headers, request.body)
        self._check_date(headers)
        known = await self._callers.find_credential(claim.access_key)
        if known is None:
            raise NotAuthenticatedError("Get secretKey failed,ak:***,err:ak not exist")
        _check_signature(claim, request, headers, known.secret_key)
        return Caller(
            project_id=known.project_id,
            project_name=known.project_name,
            principal=f"access key {known.access_key}",
        )

    def _check_date(self, headers: _Headers) -> None:
        # Repeats inside the window are legal: the SDK sends a retry with the same signature.
        text = headers.get("x-sdk-date") or ""
        try:
            sent = dt.datetime.strptime(text, DATE_FORMAT).replace(tzinfo=dt.UTC)
        except ValueError as exc:
            raise NotAuthenticatedError("X-Sdk-Date must read YYYYMMDDTHHMMSSZ") from exc
        if abs(self._clock() - sent) > CLOCK_TOLERANCE:
            raise NotAuthenticatedError("X-Sdk-Date is more than 15 minutes off the server's clock")


class _Claim(msgspec.Struct, frozen=True):
    access_key: str
    signed_headers: tuple[str, ...]
    signature: str


class _Headers:
    """Header fields by lower-case name; those that decide anything occur once or not at all."""

    def __init__(self, sent: Sequence[tuple[bytes, bytes]]) -> None:
        self.pairs = [
            (name.decode("latin-1").lower(), value.decode("utf-8", "surrogateescape"))
            for name, value in sent
        ]
        counts = Counter(name for name, _ in self.pairs)
        for name in sorted(_ONLY_ONCE):
            if counts[name] > 1:
                raise NotAuthenticatedError(f"the header {name} was sent more than once")
        self._values = dict(self.pairs)

    def get(self, name: str) -> str | None:
        value = self._values.get(name)
        return None if value is None else value.strip()


def _read_claim(text: str) -> _Claim:
    match = _AUTHORIZATION.fullmatch(text.strip())
    if match is None:
        raise NotAuthenticatedError(
            f"Authorization must read {ALGORITHM} Access=…, SignedHeaders=…, Signature=…"
        )
    names = tuple(match[2].lower().split(";"))
    return _Claim(match[1], names, match[3].lower())


def _check_coverage(claim: _Claim, headers: _Headers, body: bytes) -> None:
    """Refuse a signature that leaves open what would change the request's meaning."""
    needed = ["host", "x-sdk-date"]
    if body:
        needed.append("content-type")
    if headers.get("x-project-id") is not None:
        needed.append("x-project-id")
    for name in needed:
        if name not in claim.signed_headers:
            raise NotAuthenticatedError(f"the header {name} must be among SignedHeaders")
    if headers.get("x-security-token") is not None:
        raise NotAuthenticatedError("temporary credentials (X-Security-Token) are not known here")
    claimed = headers.get("x-sdk-content-sha256")
    if claimed is not None and claimed.lower() != hashlib.sha256(body).hexdigest():
        raise NotAuthenticatedError("X-Sdk-Content-Sha256 is not the SHA-256 of the body")


def _check_signature(
    claim: _Claim, request: RawRequest, headers: _Headers, secret_key: str
) -> None:
    expected = expected_signature(
        method=request.method,
        raw_path=request.raw_path.decode("ascii", "surrogateescape"),
        raw_query=request.raw_query.decode("ascii", "surrogateescape"),
        headers=headers.pairs,
        signed_headers=claim.signed_headers,
        body=request.body,
        secret_key=secret_key,
        date_header=headers.get("x-sdk-date") or "",
    )
    if not hmac.compare_digest(expected, claim.signature):
        raise NotAuthenticatedError("verify aksk signature fail")


def _check_project(headers: _Headers, caller: Caller) -> None:
    wanted = headers.get("x-project-id")
    if wanted is not None and wanted != caller.project_id:
        raise NotAuthenticatedError("X-Project-Id is not the project of the credential")
