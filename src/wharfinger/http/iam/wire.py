"""The shapes of IAM v3 on the wire."""

from __future__ import annotations

import datetime as dt
from typing import Any

import msgspec

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.http.parameters import checked_text
from wharfinger.identity.login import LoginWish, Named

_LONGEST_NAME = 256

# --- asking for a token --------------------------------------------------------------------------


class _PasswordUser(msgspec.Struct, frozen=True, kw_only=True):
    password: str
    id: str | None = None
    name: str | None = None
    domain: Named | None = None


class _Password(msgspec.Struct, frozen=True, kw_only=True):
    user: _PasswordUser


class _Identity(msgspec.Struct, frozen=True, kw_only=True):
    methods: list[str]
    password: _Password | None = None


class _Scope(msgspec.Struct, frozen=True, kw_only=True):
    project: Named | None = None
    domain: Named | None = None
    unscoped: Any = None


class _Auth(msgspec.Struct, frozen=True, kw_only=True):
    identity: _Identity
    # Keystone also takes the word "unscoped".
    scope: _Scope | str | None = None


class TokenRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /v3/auth/tokens``."""

    auth: _Auth

    def wish(self) -> LoginWish:
        """What is asked for.

        Raises:
            InvalidParameterError: it is not a login with a password.
        """
        identity, scope = self.auth.identity, self.auth.scope
        if identity.methods != ["password"] or identity.password is None:
            raise InvalidParameterError("auth.identity.methods", 'must be ["password"]')
        if isinstance(scope, str) and scope != "unscoped":
            raise InvalidParameterError("auth.scope", 'must be an object, or "unscoped"')
        user = identity.password.user
        parts = scope if isinstance(scope, _Scope) else _Scope()
        named = Named(id=user.id, name=user.name, domain=user.domain)
        _check_names("auth.identity.password.user", named)
        _check_names("auth.scope.project", parts.project)
        _check_names("auth.scope.domain", parts.domain)
        return LoginWish(
            user=named,
            password=user.password,
            project=parts.project,
            account=None if parts.project else parts.domain,
            unscoped=scope == "unscoped" or parts.unscoped is not None,
        )


def _check_names(where: str, named: Named | None) -> None:
    """Refuse what cannot be the id or name of anything that is stored."""
    while named is not None:
        checked_text(f"{where}.id", named.id or "", _LONGEST_NAME, 0)
        checked_text(f"{where}.name", named.name or "", _LONGEST_NAME, 0)
        where, named = f"{where}.domain", named.domain


# --- a token -------------------------------------------------------------------------------------


class Reference(msgspec.Struct, frozen=True, kw_only=True):
    """Something by id and name."""

    id: str
    name: str


class ReferenceInDomain(msgspec.Struct, frozen=True, kw_only=True):
    """A user or a project with the account it belongs to."""

    id: str
    name: str
    domain: Reference


class TokenUser(msgspec.Struct, frozen=True, kw_only=True):
    """Whose token it is."""

    id: str
    name: str
    domain: Reference
    password_expires_at: str = ""


class Endpoint(msgspec.Struct, frozen=True, kw_only=True):
    """Where one service is found."""

    id: str
    url: str
    region: str
    region_id: str
    interface: str = "public"


class CatalogEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One service."""

    id: str
    type: str
    name: str
    endpoints: list[Endpoint]


class TokenBody(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A token as Keystone shows it. One of ``project`` and ``domain`` is its scope, or neither."""

    issued_at: str
    expires_at: str
    user: TokenUser
    methods: list[str]
    roles: list[Reference]
    project: ReferenceInDomain | None = None
    domain: Reference | None = None
    catalog: list[CatalogEntry] | None = None


class TokenAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The body beside ``X-Subject-Token``."""

    token: TokenBody


# --- a temporary key -----------------------------------------------------------------------------


class _TokenMethod(msgspec.Struct, frozen=True, kw_only=True):
    id: str | None = None
    duration_seconds: int | None = None


class _KeyIdentity(msgspec.Struct, frozen=True, kw_only=True):
    methods: list[str]
    token: _TokenMethod | None = None
    policy: Any = None


class _KeyAuth(msgspec.Struct, frozen=True, kw_only=True):
    identity: _KeyIdentity


class TemporaryKeyRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The body of ``POST /v3.0/OS-CREDENTIAL/securitytokens``."""

    auth: _KeyAuth


class TemporaryKey(msgspec.Struct, frozen=True, kw_only=True):
    """An access key that works beside its security token, until a time."""

    access: str
    secret: str
    securitytoken: str
    expires_at: str


class TemporaryKeyAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """The key, shown this once."""

    credential: TemporaryKey


# --- lists ---------------------------------------------------------------------------------------


class Links(msgspec.Struct, frozen=True, kw_only=True, rename={"self_": "self"}):
    """Keystone's links of a list."""

    self_: str
    previous: str | None = None
    next: str | None = None


class KeystoneProject(msgspec.Struct, frozen=True, kw_only=True):
    """A project as IAM shows it."""

    id: str
    name: str
    domain_id: str
    parent_id: str
    description: str = ""
    enabled: bool = True
    is_domain: bool = False
    links: dict[str, str] = {}


class KeystoneProjects(msgspec.Struct, frozen=True, kw_only=True):
    """A list of projects."""

    projects: list[KeystoneProject]
    links: Links


class KeystoneDomain(msgspec.Struct, frozen=True, kw_only=True):
    """An account as IAM shows it."""

    id: str
    name: str
    description: str = ""
    enabled: bool = True
    links: dict[str, str] = {}


class KeystoneDomains(msgspec.Struct, frozen=True, kw_only=True):
    """A list of accounts."""

    domains: list[KeystoneDomain]
    links: Links


class MediaType(msgspec.Struct, frozen=True, kw_only=True):
    """How a version speaks."""

    base: str
    type: str


class ApiVersion(msgspec.Struct, frozen=True, kw_only=True, rename={"media_types": "media-types"}):
    """One version of IAM, by which keystoneauth finds its way."""

    id: str
    status: str
    updated: str
    links: list[dict[str, str]]
    media_types: list[MediaType]


class VersionAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What answers at ``/v3``."""

    version: ApiVersion


class KeystoneErrorBody(msgspec.Struct, frozen=True, kw_only=True):
    """An error as Keystone words it."""

    code: int
    message: str
    title: str


class IamError(msgspec.Struct, frozen=True, kw_only=True):
    """An error for both kinds of readers: the cloud's SDK and Keystone's clients."""

    error_code: str
    error_msg: str
    error: KeystoneErrorBody
    request_id: str


def wire_time(time: dt.datetime) -> str:
    """A time as IAM writes it: UTC, with microseconds."""
    return time.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
