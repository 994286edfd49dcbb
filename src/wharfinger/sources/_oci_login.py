"""Answers a registry's challenge: basic, or a bearer token fetched from the realm it names.

A user called ``<token>`` (as Docker's own configuration has it) or by ACR's all-zero id has a
refresh token for a password, which is posted instead (the distribution project's "OAuth2 token
authentication"). Microsoft Entra's tokens are exchanged for one at ACR's ``/oauth2/exchange``
(Azure, "AAD-OAuth").
"""

from __future__ import annotations

import asyncio
import base64
import re
import time
from collections import defaultdict
from collections.abc import Callable
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from wharfinger.domain.errors import UnauthorisedError, UnexpectedAnswerError
from wharfinger.domain.model import RegistryCredential
from wharfinger.domain.ports import Authorise, Http, Reply, Request
from wharfinger.sources._reading import decode, raise_for_status

# The token specification: without expires_in a token lives for a minute.
_DEFAULT_LIFETIME_S = 60.0
_RENEW_EARLIER_S = 5.0
_KEPT_TOKENS = 1000
_MOST_TOKEN_BYTES = 1024 * 1024
# Whoever is called so has a refresh token for a password.
_REFRESHING = frozenset({"<token>", "00000000-0000-0000-0000-000000000000"})
_LOOPBACK = frozenset({"localhost", "127.0.0.1", "::1"})

_CHALLENGE_PART = re.compile(
    r'(?:(?P<scheme>[A-Za-z]+)(?:\s+|$))?(?:(?P<name>[\w-]+)\s*=\s*(?P<value>"(?:[^"\\]|\\.)*"|[^\s,]+))?'
)


class Challenge(msgspec.Struct, frozen=True):
    """What a ``WWW-Authenticate`` header asks for."""

    scheme: str
    realm: str = ""
    service: str = ""
    scope: str = ""


class _Token(msgspec.Struct, frozen=True):
    text: str
    ends_at: float  # monotonic seconds


class _TokenAnswer(msgspec.Struct, frozen=True):
    token: str | None = None
    access_token: str | None = None
    expires_in: float | None = None


class _Exchanged(msgspec.Struct, frozen=True):
    refresh_token: str


class RegistryLogin:
    """Knows how a registry wants to be asked, as soon as it has said so once.

    Args:
        address: the registry's root; credentials are answered to its host only.
        credential: "none", "basic" or "token" (a bearer token somebody else renews).
        http: reaches the realm, under the same address checks as the registry.
        exchange: the password is an access token of Entra's, to be exchanged at the registry.
        clock: monotonic seconds.
    """

    def __init__(
        self,
        address: str,
        credential: RegistryCredential,
        http: Http,
        *,
        exchange: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._exchange = exchange
        self._refresh_token = ""
        self._address = address
        self._credential = credential
        self._http = http
        self._clock = clock
        self._challenge: Challenge | None = None
        self._tokens: dict[str, _Token] = {}
        self._turns: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._refusal: UnauthorisedError | None = None

    def for_call(self, scope: str) -> Authorise:
        """Return what authorises the attempts of one call that needs ``scope``."""
        used = ""

        async def authorise(request: Request, challenge: Reply | None) -> Request | None:
            nonlocal used
            if challenge is None:
                used = await self._known_value(scope)
                return _with_authorization(request, used)
            better = await self._better_value(challenge, scope, used)
            if not better or better == used:
                return None
            used = better
            return _with_authorization(request, used)

        return authorise

    async def _known_value(self, scope: str) -> str:
        """Return the ``Authorization`` that was right last time, or nothing."""
        if self._credential.kind == "token":
            return f"Bearer {self._credential.secret}"
        if self._challenge is None:
            return ""
        if self._challenge.scheme == "basic":
            return self._basic_value()
        return await self._bearer_value(self._challenge, scope, spent="")

    async def _better_value(self, refused: Reply, scope: str, used: str) -> str:
        """Return the ``Authorization`` that a challenge asks for, or nothing."""
        # A host that we were only redirected to has no business with our credentials.
        if urlsplit(refused.url).netloc != urlsplit(self._address).netloc:
            return ""
        offered = parse_challenges(refused.headers.get("www-authenticate", ""))
        bearer = offered.get("bearer")
        if self._credential.kind == "token":
            return ""
        if bearer is not None and bearer.realm:
            self._challenge = bearer
            # The registry knows best which scope it misses.
            return await self._bearer_value(bearer, bearer.scope or scope, spent=used)
        if "basic" in offered:
            self._challenge = offered["basic"]
            return self._basic_value()
        return ""

    def _basic_value(self) -> str:
        if self._credential.kind != "basic":
            return ""
        pair = f"{self._credential.identity}:{self._credential.secret}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    async def _bearer_value(self, challenge: Challenge, scope: str, *, spent: str) -> str:
        # One call fetches; those that wait for the same scope then find its token.
        async with self._turns[scope]:
            token = self._tokens.get(scope)
            fresh = token is not None and token.ends_at > self._clock()
            if token is None or not fresh or f"Bearer {token.text}" == spent:
                token = await self._fetch(challenge, scope)
                self._remember(scope, token)
        return f"Bearer {token.text}"

    def _remember(self, scope: str, token: _Token) -> None:
        self._tokens[scope] = token
        # There is a scope for every repository, and a registry may have a hundred thousand.
        while len(self._tokens) > _KEPT_TOKENS:
            oldest = next(iter(self._tokens))
            del self._tokens[oldest]
            self._turns.pop(oldest, None)

    async def _fetch(self, challenge: Challenge, scope: str) -> _Token:
        # Token services lock users after a few wrong passwords, so a refusal is final.
        if self._refusal is not None:
            raise self._refusal
        exchanged_before = bool(self._refresh_token)
        try:
            return await self._ask_for_token(challenge, scope)
        except UnauthorisedError as exc:
            if not exchanged_before:
                self._refusal = exc
                raise
        # What an earlier exchange brought has come to its end after some hours.
        self._refresh_token = ""
        return await self._ask_for_token(challenge, scope)

    async def _ask_for_token(self, challenge: Challenge, scope: str) -> _Token:
        request = await self._token_request(challenge, scope)
        return await self._http.call(request, self._read_token)

    async def _token_request(self, challenge: Challenge, scope: str) -> Request:
        self._check_realm(challenge.realm)
        if self._exchange or self._credential.identity in _REFRESHING:
            refresh_token = await self._refreshing(challenge)
            form = {"service": challenge.service, "scope": scope, "client_id": "wharfinger"}
            form |= {"grant_type": "refresh_token", "refresh_token": refresh_token}
            return _posted(challenge.realm, form)
        query = {"service": challenge.service, "scope": scope}
        text = urlencode({k: v for k, v in query.items() if v}, quote_via=quote, safe=":,/")
        joint = "&" if urlsplit(challenge.realm).query else "?"
        headers = {"Accept": "application/json"}
        if self._credential.kind == "basic":
            headers["Authorization"] = self._basic_value()
        return Request(
            method="GET",
            url=f"{challenge.realm}{joint}{text}" if text else challenge.realm,
            headers=headers,
            max_bytes=_MOST_TOKEN_BYTES,
        )

    async def _refreshing(self, challenge: Challenge) -> str:
        """Return the refresh token: the password itself, or what it was exchanged for, once."""
        if not self._exchange:
            return self._credential.secret
        async with self._turns["exchange"]:
            if not self._refresh_token:
                form = {"grant_type": "access_token", "service": challenge.service}
                form["access_token"] = self._credential.secret
                parts = urlsplit(self._address)
                url = f"{parts.scheme}://{parts.netloc}/oauth2/exchange"
                self._refresh_token = await self._http.call(_posted(url, form), _read_exchanged)
        return self._refresh_token

    def _read_token(self, reply: Reply) -> _Token:
        raise_for_status(reply)
        answer = decode(reply, _TokenAnswer)
        text = answer.token or answer.access_token
        if not text or not text.isprintable():
            raise UnexpectedAnswerError("the token service answered without a token")
        lifetime_s = answer.expires_in or _DEFAULT_LIFETIME_S
        margin_s = min(_RENEW_EARLIER_S, lifetime_s / 10)
        return _Token(text, self._clock() + lifetime_s - margin_s)

    def _check_realm(self, realm: str) -> None:
        """Let a password leave over TLS, or to the host it is meant for, or not at all.

        A registry that is asked over TLS cannot talk us down to a realm without it, password or
        not: the token from there would be whatever a stranger on the way wants.
        """
        try:
            there, here = urlsplit(realm), urlsplit(self._address)
        except ValueError as exc:
            raise UnexpectedAnswerError("the registry names a realm that is no URL") from exc
        own = there.hostname == here.hostname or there.hostname in _LOOPBACK
        password = self._credential.kind == "basic"
        plain = there.scheme == here.scheme == "http" and (own or not password)
        if there.scheme != "https" and not plain:
            raise UnexpectedAnswerError(
                f"the registry sends us for a token to {there.hostname!r} without TLS"
            )


def _posted(url: str, form: dict[str, str]) -> Request:
    return Request(
        method="POST",
        url=url,
        headers={
            "Accept": "application/json",
            "Content-Type": "application/x-www-form-urlencoded",
        },
        body=urlencode({k: v for k, v in form.items() if v}).encode(),
        max_bytes=_MOST_TOKEN_BYTES,
    )


def _read_exchanged(reply: Reply) -> str:
    raise_for_status(reply)
    return decode(reply, _Exchanged).refresh_token


def parse_challenges(header: str) -> dict[str, Challenge]:
    """Return the challenges of a ``WWW-Authenticate`` header by their scheme in lower case."""
    found: dict[str, dict[str, str]] = {}
    current: dict[str, str] = {}
    for match in _CHALLENGE_PART.finditer(header):
        if match["scheme"]:
            current = found.setdefault(match["scheme"].lower(), {})
        if match["name"]:
            value = match["value"]
            if value.startswith('"'):
                value = re.sub(r"\\(.)", r"\1", value[1:-1])
            current.setdefault(match["name"].lower(), value)
    return {
        scheme: Challenge(
            scheme,
            realm=params.get("realm", ""),
            service=params.get("service", ""),
            scope=params.get("scope", ""),
        )
        for scheme, params in found.items()
    }


def _with_authorization(request: Request, value: str) -> Request:
    if not value:
        return request
    return msgspec.structs.replace(request, headers={**request.headers, "Authorization": value})
