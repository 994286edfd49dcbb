"""Turns a raw request into a caller: IAM tokens, AK/SK signatures, or both."""

from __future__ import annotations

import datetime as dt
import hmac
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol

import msgspec

from wharfinger.domain.errors import LockedError, NotAuthenticatedError, TokenExpiredError
from wharfinger.domain.model import Caller
from wharfinger.domain.signature import ALGORITHM, DATE_FORMAT, canonical_request
from wharfinger.identity.locks import Locks
from wharfinger.identity.signatures import (
    ECDSA,
    NOT_CHECKED,
    Claim,
    Scheme,
    schemes,
    text_to_sign,
)
from wharfinger.store.callers import Known, KnownCredential, KnownToken, token_digest

CLOCK_TOLERANCE = dt.timedelta(minutes=15)
MAX_TOKEN_LENGTH = 32768

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
        "x-sdk-content-sm3",
        "x-sdk-date",
        "x-security-token",
        "x-subject-token",
    }
)


_SIGNED_WHERE_SENT = ("content-type", "x-project-id", "x-domain-id", "x-security-token")


class RawRequest(msgspec.Struct, frozen=True, kw_only=True):
    """A request as it came: percent-encoded path and query, header fields in their order.

    ``source`` is the address it came from.
    """

    method: str
    raw_path: bytes
    raw_query: bytes
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes = b""
    source: str = ""


class Issuer(Protocol):
    """Who vouches for tokens."""

    async def find_token(self, token: str) -> KnownToken | None:
        """Look a token up, expired and revoked or not; ``None`` if it never was.

        Raises:
            IdentityUnavailableError: that cannot be told now.
            ProjectUnavailableError: it is good, and of a project that is not kept here.
        """
        ...


class KnownCallers(Issuer, Protocol):
    """Where credentials and our own tokens are looked up."""

    async def find_credential(self, access_key: str) -> KnownCredential | None:
        """Look an access key up; ``None`` if it is unknown or revoked."""
        ...


class Authenticator:
    """Verifies credentials in full; what it does not understand it refuses.

    Args:
        callers: our own credentials and tokens.
        issuers: who else may vouch for a token, asked in turn for those that are not our own.
        locks: who failed too often; one's own by default.
        ecdsa: whether ECDSA signatures are checked; they cost a hundred times an HMAC.
        clock: what time it is.
    """

    def __init__(
        self,
        callers: KnownCallers,
        *,
        issuers: Sequence[Issuer] = (),
        locks: Locks | None = None,
        ecdsa: bool = False,
        clock: Callable[[], dt.datetime] = lambda: dt.datetime.now(dt.UTC),
    ) -> None:
        self._callers = callers
        self._issuers: Sequence[Issuer] = (callers, *issuers)
        self._locks = locks or Locks()
        self._schemes = schemes(ecdsa=ecdsa)
        self._clock = clock

    async def authenticate(self, request: RawRequest) -> Caller:
        """Tell who is asking.

        A signature must hold wherever ``Authorization`` names a signing algorithm; an
        ``Authorization`` of any other kind is what SDK users preset to suppress the signature,
        and leaves the token alone. A signature beside a token must agree with it on the project,
        and then it is the signature's caller who asks.

        Raises:
            TokenExpiredError: the token was good once.
            LockedError: the access key failed too often from this address.
            NotAuthenticatedError: nothing was given, or something given does not hold.
            IdentityUnavailableError: nobody can tell now whether the token is good.
            ProjectUnavailableError: the token is good, and of a project that is not kept here.
        """
        headers = _Headers(request.headers)
        signed = await self._signed(request, headers)
        token = await self._token(headers)
        caller = signed or token
        if caller is None:
            raise NotAuthenticatedError(
                "neither X-Auth-Token nor an AK/SK signature was given", reason="no_credentials"
            )
        if signed and token and signed.project_id != token.project_id:
            raise NotAuthenticatedError(
                "the signature and the token are of different projects",
                reason="two_projects",
                caller=signed,
                proven=True,
            )
        _check_project(headers, caller)
        return caller

    async def find_token(self, token: str) -> KnownToken | None:
        """Look a token up wherever it may come from; ``None`` if it never was.

        Raises:
            IdentityUnavailableError: as ``authenticate``.
            ProjectUnavailableError: as ``authenticate``.
        """
        for issuer in self._issuers:
            known = await issuer.find_token(token)
            if known is not None:
                return known
        return None

    async def holder_of_token(self, token: str) -> tuple[KnownToken, Caller]:
        """Tell whom a token stands for, whatever it opens.

        Raises:
            NotAuthenticatedError: it does not hold.
            IdentityUnavailableError: as ``authenticate``.
            ProjectUnavailableError: as ``authenticate``.
        """
        known = await self._good_token(token)
        return known, caller_of(known, "token", opens_project=known.scope == "project")

    async def holder_of_key(
        self, access_key: str, secret_key: str, source: str
    ) -> tuple[KnownCredential, Caller]:
        """Tell whom an access key stands for, of which somebody shows the secret itself.

        Raises:
            LockedError: the access key failed too often from this address.
            NotAuthenticatedError: it does not hold, has ended, or is a temporary one.
        """
        self._check_lock(access_key, source)
        known = await self._callers.find_credential(access_key)
        # A key that does not exist takes the same way, so that its answer tells nothing.
        secret = known.secret_key if known else ""
        if not hmac.compare_digest(secret.encode(), secret_key.encode()) or known is None:
            self._locks.failed(access_key, source)
            raise NotAuthenticatedError(
                "the access key or its secret is wrong",
                reason="wrong_secret_key" if known else "unknown_key",
                caller=_signer(known) if known else None,
            )
        if known.security_digest is not None:
            raise NotAuthenticatedError(
                "a temporary access key signs calls only", reason="temporary_key"
            )
        self._check_end(known)
        self._locks.succeeded(access_key, source)
        return known, _signer(known)

    def is_live(self, known: KnownToken) -> bool:
        """Whether a token is neither revoked nor at its end."""
        return not known.revoked and known.expires_at > self._clock()

    async def _token(self, headers: _Headers) -> Caller | None:
        token = headers.get("x-auth-token")
        if token is None:
            return None
        return (await self.holder_of_token(token))[1]

    async def _good_token(self, token: str) -> KnownToken:
        if not 1 <= len(token) <= MAX_TOKEN_LENGTH:
            raise NotAuthenticatedError(f"X-Auth-Token must be 1 to {MAX_TOKEN_LENGTH} characters")
        known = await self.find_token(token)
        if known is None:
            raise NotAuthenticatedError("decrypt token fail", reason="unknown_token")
        if not self.is_live(known):
            raise TokenExpiredError("The token must be updated.", caller=caller_of(known, "token"))
        return known

    async def _signed(self, request: RawRequest, headers: _Headers) -> Caller | None:
        authorization = headers.get("authorization")
        if authorization is None:
            return None
        algorithm, _, rest = authorization.partition(" ")
        if algorithm in NOT_CHECKED or (algorithm == ECDSA and ECDSA not in self._schemes):
            raise NotAuthenticatedError(f"{algorithm} is not supported here, use {ALGORITHM}")
        scheme = self._schemes.get(algorithm)
        if scheme is None:
            return None
        claim = scheme.read(rest)
        _check_coverage(claim, scheme, headers, request.body)
        self._check_date(headers, claim)
        known = await self._key_that_signed(claim, scheme, request, headers)
        return _signer(known)

    async def _key_that_signed(
        self, claim: Claim, scheme: Scheme, request: RawRequest, headers: _Headers
    ) -> KnownCredential:
        self._check_lock(claim.access_key, request.source)
        known = await self._callers.find_credential(claim.access_key)
        if known is None:
            raise NotAuthenticatedError(
                "Get secretKey failed,ak:***,err:ak not exist", reason="unknown_key"
            )
        try:
            _check_signature(claim, scheme, request, headers, known.secret_key)
            _check_security_token(headers.get("x-security-token"), known)
        except NotAuthenticatedError as error:
            self._locks.failed(claim.access_key, request.source)
            # Its owner wants to know that somebody tries.
            error.caller, error.reason = _signer(known), "wrong_signature"
            raise
        self._check_end(known)
        self._locks.succeeded(claim.access_key, request.source)
        return known

    def _check_lock(self, access_key: str, source: str) -> None:
        if self._locks.is_locked(access_key, source):
            raise LockedError("AK access failed to reach the limit,forbidden")

    def _check_end(self, known: KnownCredential) -> None:
        if known.expires_at is not None and known.expires_at <= self._clock():
            raise NotAuthenticatedError(
                "the access key has expired", reason="expired_key", caller=_signer(known)
            )

    def _check_date(self, headers: _Headers, claim: Claim) -> None:
        # Repeats inside the window are legal: the SDK sends a retry with the same signature.
        text = headers.get("x-sdk-date") or ""
        try:
            sent = dt.datetime.strptime(text, DATE_FORMAT).replace(tzinfo=dt.UTC)
        except ValueError as exc:
            raise NotAuthenticatedError("X-Sdk-Date must read YYYYMMDDTHHMMSSZ") from exc
        if abs(self._clock() - sent) > CLOCK_TOLERANCE:
            raise NotAuthenticatedError("X-Sdk-Date is more than 15 minutes off the server's clock")
        if claim.info and not text.startswith(claim.info[:8]):
            raise NotAuthenticatedError("the day in Credential is not that of X-Sdk-Date")


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


def _check_coverage(claim: Claim, scheme: Scheme, headers: _Headers, body: bytes) -> None:
    """Refuse a signature that leaves open what would change the request's meaning."""
    needed = ["host", "x-sdk-date"]
    if body:
        needed.append("content-type")
    needed += [name for name in _SIGNED_WHERE_SENT if headers.get(name) is not None]
    for name in needed:
        if name not in claim.signed_headers:
            raise NotAuthenticatedError(f"the header {name} must be among SignedHeaders")
    claimed = headers.get(scheme.content_header)
    if claimed is not None and claimed.lower() != scheme.digest(body):
        name = "-".join(part.capitalize() for part in scheme.content_header.split("-"))
        kind = name.rpartition("-")[2].upper().replace("SHA256", "SHA-256")
        raise NotAuthenticatedError(f"{name} is not the {kind} of the body")


def _check_signature(
    claim: Claim, scheme: Scheme, request: RawRequest, headers: _Headers, secret_key: str
) -> None:
    canonical = canonical_request(
        method=request.method,
        raw_path=request.raw_path.decode("ascii", "surrogateescape"),
        raw_query=request.raw_query.decode("ascii", "surrogateescape"),
        headers=headers.pairs,
        signed_headers=claim.signed_headers,
        payload=scheme.digest(request.body),
    )
    text = text_to_sign(claim, canonical, headers.get("x-sdk-date") or "", scheme.digest)
    if not scheme.holds(claim, text, secret_key):
        raise NotAuthenticatedError("verify aksk signature fail")


def _check_security_token(given: str | None, known: KnownCredential) -> None:
    """A temporary key works beside its token only, and a lasting one beside none."""
    if known.security_digest is None:
        if given is not None:
            raise NotAuthenticatedError("X-Security-Token is not for a permanent access key")
    elif given is None:
        raise NotAuthenticatedError("a temporary access key needs its X-Security-Token")
    elif not hmac.compare_digest(token_digest(given), known.security_digest):
        raise NotAuthenticatedError("verify aksk signature fail")


def _check_project(headers: _Headers, caller: Caller) -> None:
    wanted = headers.get("x-project-id")
    if wanted is not None and wanted != caller.project_id:
        raise NotAuthenticatedError(
            "X-Project-Id is not the project of the credential",
            reason="other_project",
            caller=caller,
            proven=True,
        )
    account = headers.get("x-domain-id")
    if account is not None and account != caller.account_id:
        raise NotAuthenticatedError(
            "X-Domain-Id is not the account of the credential",
            reason="other_account",
            caller=caller,
            proven=True,
        )


def _signer(known: KnownCredential) -> Caller:
    caller = caller_of(known, f"access key {known.access_key}")
    return msgspec.structs.replace(caller, access_key=known.access_key)


def caller_of(known: Known, by: str, *, opens_project: bool = True) -> Caller:
    """The caller that somebody known is, by which of its credentials."""
    return Caller(
        project_id=known.project_id if opens_project else "",
        project_name=known.project_name if opens_project else "",
        principal=f"user {known.user_name}, {by}" if known.user_name else by,
        account_id=known.account_id,
        user_id=known.user_id or "",
        user_name=known.user_name or "",
        policies=known.policies,
        enterprise_projects=known.enterprise_projects,
        sees_every_enterprise_project=known.sees_every_enterprise_project,
    )
