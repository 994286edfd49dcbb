"""Tokens that another identity service vouches for: any IAM or Keystone that speaks v3."""

from __future__ import annotations

import asyncio
import datetime as dt
import re
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import Protocol

import msgspec
import structlog

from wharfinger.domain.errors import (
    ConflictError,
    IdentityUnavailableError,
    ProjectUnavailableError,
    SetupError,
    SourceError,
)
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT
from wharfinger.domain.policy import SYSTEM_POLICIES
from wharfinger.domain.ports import Reply, Request, Transport
from wharfinger.store.callers import KnownToken, ProjectRef, token_digest

log = structlog.get_logger()

_TOKEN = re.compile(r"[\x21-\x7e]{1,32768}")
_MOST_TOKENS = 10_000
_MOST_QUESTIONS_AT_ONCE = 16
_MAX_ANSWER = 4 * 1024 * 1024
# A token that is unknown does not become known; still, services of several parts tell late.
_BAD_FOR_S = 10.0
# A service account that was refused is not tried at every call: IAM locks users for that.
_REFUSED_FOR_S = 60.0


class ServiceAccount(msgspec.Struct, frozen=True, kw_only=True):
    """Where the identity service is, and who we are there.

    ``address`` is without ``/v3``. ``password`` reads it, so that a changed file counts. Without
    ``project`` our own token is of the domain.
    """

    address: str
    user: str
    domain: str
    password: Callable[[], str]
    project: str | None = None

    def __repr__(self) -> str:
        return f"ServiceAccount(address={self.address!r}, user={self.user!r}, password=***)"


class Projects(Protocol):
    """The projects that are kept here."""

    async def find_project(self, project_id: str) -> ProjectRef | None:
        """One project."""
        ...

    async def create_project(self, name: str, project_id: str | None = None) -> object:
        """Make a project."""
        ...

    async def every_enterprise_project(self, account_id: str) -> tuple[str, ...]:
        """The enterprise projects of an account."""
        ...


class _Named(msgspec.Struct, frozen=True, kw_only=True):
    id: str
    name: str = ""


class _Token(msgspec.Struct, frozen=True, kw_only=True):
    """What is read of a token's description."""

    expires_at: dt.datetime
    user: _Named
    project: _Named | None = None
    roles: list[_Named] = []


class _Described(msgspec.Struct, frozen=True, kw_only=True):
    token: _Token


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What was said of a token: good now, good once, or never; and until when to believe it."""

    token: _Token | None
    revoked: bool
    believed_until: float


class _Answers:
    """Answers by token. Tokens that never were good are kept apart: they push out no good one."""

    def __init__(self) -> None:
        self._good: OrderedDict[bytes, _Answer] = OrderedDict()
        self._bad: OrderedDict[bytes, _Answer] = OrderedDict()

    def get(self, digest: bytes) -> _Answer | None:
        return self._good.get(digest) or self._bad.get(digest)

    def put(self, digest: bytes, answer: _Answer) -> None:
        kept = self._bad if answer.token is None else self._good
        kept[digest] = answer
        kept.move_to_end(digest)
        while len(kept) > _MOST_TOKENS:
            kept.popitem(last=False)


class _TokenRefusedError(Exception):
    """The identity service does not take our own token."""


class ExternalTokens:
    """Asks an identity service what a token is worth. It implements ``authentication.Issuer``.

    An answer is believed for ``cache_s`` seconds and never beyond the token's own end, so a
    revocation is noticed within that time. Calls with one token that wait at the same time wait
    for one question.

    Args:
        transport: how the service is reached.
        account: where it is, and who asks.
        projects: which projects are kept here.
        roles: which of the system's policies a role stands for; other roles allow nothing.
        cache_s: how long an answer is believed.
        timeout_s: how long one question may take, logging in included.
        create_projects: whether a project that is seen for the first time is made.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        transport: Transport,
        account: ServiceAccount,
        projects: Projects,
        *,
        roles: Mapping[str, str],
        cache_s: float,
        timeout_s: float,
        create_projects: bool = False,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._service = _Service(transport, account, clock)
        self._projects = projects
        self._roles = roles
        self._cache_s = cache_s
        self._timeout_s = timeout_s
        self._create_projects = create_projects
        self._clock = clock
        self._answers = _Answers()
        self._asking: dict[bytes, asyncio.Task[_Answer]] = {}
        self._turns = asyncio.Semaphore(_MOST_QUESTIONS_AT_ONCE)

    async def find_token(self, token: str) -> KnownToken | None:
        """Look a token up; one that was good here before and no longer is counts as revoked.

        Raises:
            IdentityUnavailableError: the service does not answer, or not to us.
            ProjectUnavailableError: the token is good, but of no project that is kept here.
        """
        if not _TOKEN.fullmatch(token):
            return None
        answer = await self._answer(token)
        if answer.token is None:
            return None
        project = await self._project(answer.token)
        policies = {name for role in answer.token.roles if (name := self._roles.get(role.name))}
        # Its users are not ours to grant anything to: administrators act as the account does.
        is_administrator = "administrator" in policies
        return KnownToken(
            project_id=project.id,
            project_name=project.name,
            account_id=project.account_id,
            user_id=answer.token.user.id,
            user_name=answer.token.user.name or answer.token.user.id,
            policies=tuple(SYSTEM_POLICIES[name] for name in sorted(policies)),
            roles=tuple(role.name for role in answer.token.roles),
            expires_at=answer.token.expires_at,
            revoked=answer.revoked,
            issuer=self._service.address,
            enterprise_projects=(
                await self._projects.every_enterprise_project(project.account_id)
                if is_administrator
                else (DEFAULT_ENTERPRISE_PROJECT,)
            ),
            sees_every_enterprise_project=is_administrator,
        )

    async def _answer(self, token: str) -> _Answer:
        digest = token_digest(token)
        known = self._answers.get(digest)
        if known is not None and self._clock() < known.believed_until:
            return known
        task = self._asking.get(digest)
        if task is None:
            task = asyncio.create_task(self._ask(token, digest))
            self._asking[digest] = task
            task.add_done_callback(lambda done: self._asked(digest, done))
        # Whoever hangs up leaves the question to those who still wait.
        return await asyncio.shield(task)

    def _asked(self, digest: bytes, task: asyncio.Task[_Answer]) -> None:
        del self._asking[digest]
        if not task.cancelled():
            task.exception()  # Seen, even if everybody who waited has hung up.

    async def _ask(self, token: str, digest: bytes) -> _Answer:
        begun = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s), self._turns:
                found = await self._service.describe(token)
        except TimeoutError as exc:
            log.warning("iam.unavailable", error="no answer in time")
            raise IdentityUnavailableError("the identity service does not answer") from exc
        before = self._answers.get(digest)
        if found is not None:
            answer = _Answer(token=found, revoked=False, believed_until=begun + self._cache_s)
        else:
            # It was good once, so its owner is told to renew it.
            answer = _Answer(
                token=None if before is None else before.token,
                revoked=True,
                believed_until=begun + min(self._cache_s, _BAD_FOR_S),
            )
        self._answers.put(digest, answer)
        return answer

    async def _project(self, token: _Token) -> ProjectRef:
        if token.project is None:
            raise ProjectUnavailableError("the token is scoped to no project")
        wanted = token.project
        found = await self._projects.find_project(wanted.id)
        if found is None and self._create_projects:
            found = await self._create(wanted)
        if found is None:
            command = f"wharfinger project create NAME --id {wanted.id}"
            raise ProjectUnavailableError(f"{wanted.id} is not kept here; run: {command}")
        return found

    async def _create(self, wanted: _Named) -> ProjectRef | None:
        try:
            await self._projects.create_project((wanted.name or wanted.id)[:64], wanted.id)
            log.info("iam.project_created", project=wanted.id)
        except ConflictError:
            pass  # Another call was faster.
        return await self._projects.find_project(wanted.id)


class _Service:
    """The identity service, asked as our service account, whose token is renewed on demand."""

    def __init__(
        self, transport: Transport, account: ServiceAccount, clock: Callable[[], float]
    ) -> None:
        self.address = account.address.rstrip("/").removesuffix("/v3")
        self._transport = transport
        self._account = account
        self._clock = clock
        self._token = ""
        self._renewing = asyncio.Lock()
        self._refused_until = 0.0

    async def describe(self, subject: str) -> _Token | None:
        """What the service says of a token; ``None`` for one it does not know.

        Raises:
            IdentityUnavailableError: it does not answer, or not to us.
        """
        ours = self._token or await self._renewed("")
        try:
            return await self._ask(ours, subject)
        except _TokenRefusedError:
            pass
        # Some services answer 401 for a bad subject, too: only our own token tells whose fault.
        if await self._is_good(ours):
            return None
        try:
            return await self._ask(await self._renewed(ours), subject)
        except _TokenRefusedError as exc:
            raise self._unavailable("a new token of the service account is refused") from exc

    async def _is_good(self, ours: str) -> bool:
        try:
            return await self._ask(ours, ours) is not None
        except _TokenRefusedError:
            return False

    async def _ask(self, ours: str, subject: str) -> _Token | None:
        reply = await self._send(
            Request(
                method="GET",
                url=f"{self.address}/v3/auth/tokens?nocatalog=true",
                headers={"X-Auth-Token": ours, "X-Subject-Token": subject},
                max_bytes=_MAX_ANSWER,
            )
        )
        if reply.status == 200:
            return self._read(reply)
        if reply.status in (400, 404):
            return None
        if reply.status == 401:
            raise _TokenRefusedError
        if reply.status == 403:
            raise self._unavailable("the service account may not validate tokens")
        raise self._unavailable(f"status {reply.status}")

    async def _renewed(self, used: str) -> str:
        """Log in, once for all who found the same token refused."""
        async with self._renewing:
            if self._token == used:
                self._token = await self._log_in()
            return self._token

    async def _log_in(self) -> str:
        if self._clock() < self._refused_until:
            raise IdentityUnavailableError("the service account was refused a moment ago")
        reply = await self._send(self._login_request())
        token = reply.headers.get("x-subject-token", "")
        if reply.status == 201 and _TOKEN.fullmatch(token):
            return token
        if reply.status in (400, 401, 403, 404):
            self._refused_until = self._clock() + _REFUSED_FOR_S
            raise self._unavailable(f"the service account is refused with status {reply.status}")
        raise self._unavailable(f"logging in: status {reply.status}")

    def _login_request(self) -> Request:
        account = self._account
        domain = {"name": account.domain}
        project = {"name": account.project, "domain": domain}
        try:
            password = account.password()
        except SetupError as exc:
            raise self._unavailable(str(exc)) from exc
        user = {"name": account.user, "password": password, "domain": domain}
        body = {
            "auth": {
                "identity": {"methods": ["password"], "password": {"user": user}},
                "scope": {"project": project} if account.project else {"domain": domain},
            }
        }
        return Request(
            method="POST",
            url=f"{self.address}/v3/auth/tokens?nocatalog=true",
            headers={"Content-Type": "application/json"},
            body=msgspec.json.encode(body),
            max_bytes=_MAX_ANSWER,
        )

    async def _send(self, request: Request) -> Reply:
        try:
            return await self._transport.send(request)
        except SourceError as exc:
            raise self._unavailable(str(exc)) from exc

    def _read(self, reply: Reply) -> _Token:
        try:
            token = msgspec.json.decode(reply.body, type=_Described).token
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise self._unavailable("the answer is not what Keystone's is") from exc
        if token.expires_at.tzinfo is None:
            return msgspec.structs.replace(
                token, expires_at=token.expires_at.replace(tzinfo=dt.UTC)
            )
        return token

    def _unavailable(self, why: str) -> IdentityUnavailableError:
        # For the operator; the caller is told no more than that nobody can tell.
        log.warning("iam.unavailable", error=why)
        return IdentityUnavailableError("the identity service does not answer")
