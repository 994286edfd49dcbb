"""The three ways to be known to SWR: a signature, a given token, a token fetched from IAM."""

from __future__ import annotations

import asyncio
import datetime as dt
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import urlsplit

import msgspec

from wharfinger.domain.errors import (
    CredentialsError,
    InvalidParameterError,
    UnexpectedAnswerError,
)
from wharfinger.domain.model import RegistryCredential, RegistryRef
from wharfinger.domain.ports import Authorise, Http, Reply, Request
from wharfinger.domain.signature import sign
from wharfinger.sources._reading import raise_for_status

Clock = Callable[[], dt.datetime]

CREDENTIAL_KINDS = frozenset({"access_key", "token", "basic"})


def utc_now() -> dt.datetime:
    """Return the time by this machine's clock, which signatures are made by."""
    return dt.datetime.now(dt.UTC)


class LoginOptions(Protocol):
    """The options of a kind that its login needs."""

    @property
    def iam_address(self) -> str:
        """The IAM endpoint, or nothing."""
        ...

    @property
    def project_id(self) -> str:
        """The project id in Huawei Cloud, or nothing."""
        ...


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Whose token IAM is asked for.

    ``user`` is ``account/user``; without ``/`` the account has the user's name. The scope is the
    project by id, else by name (a region), else the account.
    """

    iam_address: str
    user: str
    password: str
    project_id: str = ""
    project_name: str = ""

    def __repr__(self) -> str:
        return f"Login(iam_address={self.iam_address!r}, user={self.user!r}, password=***)"


class Signing:
    """Signs every attempt anew, because a signature holds for fifteen minutes only."""

    def __init__(self, credential: RegistryCredential, project_id: str, clock: Clock) -> None:
        self._credential = credential
        self._project_id = project_id
        self._clock = clock

    def for_call(self) -> Authorise:
        """Return what signs the attempts of one call."""
        return self._authorise

    async def _authorise(self, request: Request, challenge: Reply | None) -> Request | None:
        if challenge is not None:
            return None
        parts = urlsplit(request.url)
        headers = dict(request.headers)
        if self._project_id:
            headers["X-Project-Id"] = self._project_id
        added = sign(
            method=request.method,
            host=parts.netloc,
            raw_path=parts.path,
            raw_query=parts.query,
            headers=list(headers.items()),
            body=request.body,
            access_key=self._credential.identity,
            secret_key=self._credential.secret,
            at=self._clock(),
        )
        return msgspec.structs.replace(request, headers={**headers, **dict(added)})


class GivenToken:
    """Sends a token that somebody else renews."""

    def __init__(self, token: str) -> None:
        self._token = token

    def for_call(self) -> Authorise:
        """Return what adds the token to the attempts of one call."""
        return self._authorise

    async def _authorise(self, request: Request, challenge: Reply | None) -> Request | None:
        return None if challenge is not None else _with_token(request, self._token)


class FetchedToken:
    """Fetches a token from IAM with a password and renews it, once for all calls, on a 401."""

    def __init__(self, login: Login, http: Http) -> None:
        self._login = login
        self._http = http
        self._token = ""
        self._refusal: CredentialsError | None = None
        self._turn = asyncio.Lock()

    def for_call(self) -> Authorise:
        """Return what adds the token to the attempts of one call, and renews it at most once."""
        used = ""

        async def authorise(request: Request, challenge: Reply | None) -> Request | None:
            nonlocal used
            if challenge is None:
                used = self._token or await self._renewed(used)
            else:
                used = await self._renewed(used)
            return _with_token(request, used)

        return authorise

    async def _renewed(self, used: str) -> str:
        async with self._turn:
            if self._token == used:
                self._token = await self._fetch()
            return self._token

    async def _fetch(self) -> str:
        # IAM locks a user after a few wrong passwords, so a refusal is final.
        if self._refusal is not None:
            raise self._refusal
        request = Request(
            method="POST",
            url=f"{self._login.iam_address.rstrip('/')}/v3/auth/tokens?nocatalog=true",
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode(_token_request(self._login)),
        )
        try:
            return await self._http.call(request, _subject_token)
        except CredentialsError as exc:
            self._refusal = exc
            raise


def check_login(options: LoginOptions, credential: RegistryCredential) -> None:
    """Demand the address of IAM where a password must be turned into a token.

    Raises:
        InvalidParameterError: it is not given.
    """
    if credential.kind == "basic" and not options.iam_address:
        raise InvalidParameterError(
            "options.iam_address", "is needed to log in with a user name and password"
        )


def open_login(
    registry: RegistryRef,
    credential: RegistryCredential,
    http: Http,
    options: LoginOptions,
    clock: Clock,
) -> Signing | GivenToken | FetchedToken:
    """Return what makes a registry's calls known to SWR; it makes no request yet."""
    if credential.kind == "access_key":
        return Signing(credential, options.project_id, clock)
    if credential.kind == "token":
        return GivenToken(credential.secret)
    login = Login(
        iam_address=options.iam_address,
        user=credential.identity,
        password=credential.secret,
        project_id=options.project_id,
        project_name=registry.region,
    )
    return FetchedToken(login, http)


def _subject_token(reply: Reply) -> str:
    raise_for_status(reply)
    token = reply.headers.get("x-subject-token", "")
    if not token:
        raise UnexpectedAnswerError("IAM answered without X-Subject-Token")
    return token


def _token_request(login: Login) -> dict[str, Any]:
    account, _, user = login.user.rpartition("/")
    domain = {"name": account or user}
    scope: dict[str, Any] = {"domain": domain}
    if login.project_id:
        scope = {"project": {"id": login.project_id}}
    elif login.project_name:
        scope = {"project": {"name": login.project_name}}
    password = {"user": {"name": user, "password": login.password, "domain": domain}}
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": password},
            "scope": scope,
        }
    }


def _with_token(request: Request, token: str) -> Request:
    return msgspec.structs.replace(request, headers={**request.headers, "X-Auth-Token": token})
