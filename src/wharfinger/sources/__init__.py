"""The kinds of registry that can be read, loaded when first asked for."""

from __future__ import annotations

import base64
import dataclasses
import importlib
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar, Protocol, TypeVar, cast, runtime_checkable
from urllib.parse import quote, urlsplit

import msgspec

from wharfinger.domain.errors import InvalidParameterError, SourceError
from wharfinger.domain.model import (
    FoundRegistry,
    Notification,
    RegistryCredential,
    RegistryRef,
    RepositoryFilter,
)
from wharfinger.domain.ports import Authorise, Http, Reply, Request, Source
from wharfinger.sources._paths import is_pattern, spelled_out
from wharfinger.sources._references import check_reference

T = TypeVar("T")

# A shorter one stands in half of all words, and hiding it there would tell which it is.
_SHORTEST_SECRET = 4

# A new kind is one file in this package and one line here.
KINDS: Mapping[str, str] = {
    "SwrPrivate": "wharfinger.sources.swr:SwrPrivate",
    "SwrShared": "wharfinger.sources.swr:SwrShared",
    "SwrEnterprise": "wharfinger.sources.swr_enterprise:SwrEnterprise",
    "Harbor": "wharfinger.sources.harbor:Harbor",
    "Jfrog": "wharfinger.sources.jfrog:Jfrog",
    "Gitlab": "wharfinger.sources.gitlab:Gitlab",
    "Other": "wharfinger.sources.oci:Other",
}


class SourceKind(Protocol):
    """What the class of a kind must have besides the methods of ``ports.Source``.

    ``Options`` is a frozen dataclass whose fields all have defaults; the ``help`` in a field's
    metadata says what it is for. ``check`` raises ``InvalidParameterError`` for what no single
    field can tell.
    """

    Options: ClassVar[type[Any]]
    credential_kinds: ClassVar[frozenset[str]]

    def __call__(self, registry: RegistryRef, credential: RegistryCredential, http: Http) -> Source:
        """Open the source."""
        ...

    @staticmethod
    def check(options: Any, credential: RegistryCredential) -> None:
        """Check what depends on several parameters."""


@runtime_checkable
class _Notifies(Protocol):
    """An ability: a kind whose registries can tell of a change at once."""

    @staticmethod
    def notified(body: bytes) -> Notification:
        """Read a notification as the registry sends it."""
        ...


@runtime_checkable
class _Finds(Protocol):
    """An ability: a kind whose service can tell which registries of that kind there are."""

    async def found(self) -> Sequence[FoundRegistry]:
        """List them, whichever of them this source was opened for."""
        ...


def open_source(registry: RegistryRef, credential: RegistryCredential, http: Http) -> Source:
    """Return the source of a registry; it makes no request yet.

    Raises:
        InvalidParameterError: the kind is unknown, or the registry's settings do not fit it.
    """
    check_registry(registry.kind, registry.address, registry.options, credential)
    return _load(registry.kind)(registry, credential, _discreet(http, credential))


def _discreet(http: Http, credential: RegistryCredential) -> Http:
    return _Discreet(http, credential) if len(credential.secret) >= _SHORTEST_SECRET else http


class _Discreet:
    """``ports.Http`` whose errors never repeat the registry's secret, whatever a server says."""

    def __init__(self, http: Http, credential: RegistryCredential) -> None:
        self._http = http
        pair = f"{credential.identity}:{credential.secret}".encode()
        # As it is, as JSON and URLs spell it, and as it is sent.
        self._unsaid = (
            credential.secret,
            json.dumps(credential.secret)[1:-1],
            quote(credential.secret, safe=""),
            base64.b64encode(pair).decode(),
        )

    async def call(
        self, request: Request, read: Callable[[Reply], T], authorise: Authorise | None = None
    ) -> T:
        try:
            return await self._http.call(request, read, authorise)
        except SourceError as exc:
            exc.args = tuple(map(self._without_secrets, exc.args))
            raise

    def _without_secrets(self, told: object) -> object:
        if isinstance(told, str):
            for secret in self._unsaid:
                told = told.replace(secret, "…")
        return told


async def find_registries(
    registry: RegistryRef, credential: RegistryCredential, http: Http
) -> Sequence[FoundRegistry]:
    """Return the registries that the service at an address has, before any of them is chosen.

    Raises:
        InvalidParameterError: the address or the credential cannot be, or the kind has no such
            list.
        SourceError: the service could not be asked.
    """
    loaded = _load(registry.kind)
    _check_access(loaded, registry.kind, registry.address, credential)
    read_options(loaded.Options, registry.options)
    source = loaded(registry, credential, _discreet(http, credential))
    if not isinstance(source, _Finds):
        raise InvalidParameterError("kind", f"{registry.kind} has no list of its registries")
    return await source.found()


def kind_options(kind: str) -> type[Any]:
    """Return the dataclass of a kind's own options, which command line and API draw."""
    return _load(kind).Options


def filter_of(registry: RegistryRef) -> RepositoryFilter:
    """Return which repositories a registry's configuration asks for."""
    return wanted_repositories(
        registry.kind, registry.options, include=registry.include, exclude=registry.exclude
    )


def wanted_repositories(
    kind: str, options: Mapping[str, Any], *, include: Sequence[str], exclude: Sequence[str]
) -> RepositoryFilter:
    """Return what a configuration asks for: its patterns, and what of a registry it names."""
    chosen = read_options(_load(kind).Options, options)
    names = spelled_out(getattr(chosen, "repositories", ()))
    return RepositoryFilter(
        named=frozenset(name for name in names if not is_pattern(name)),
        matching=tuple(name for name in names if is_pattern(name)),
        namespaces=tuple(getattr(chosen, "projects", ())),
        # Paths of images are lower case, whatever that of their group is.
        below=tuple(path.lower() for path in getattr(chosen, "groups", ())),
        include=tuple(include),
        exclude=tuple(exclude),
    )


def login_kind(kind: str) -> str:
    """Return what a name and a secret are to registries of a kind: an access key, or a login."""
    kinds = _load(kind).credential_kinds
    return "access_key" if "access_key" in kinds else "basic"


def credential_kinds(kind: str) -> frozenset[str]:
    """Return which kinds of credential registries of a kind take."""
    return _load(kind).credential_kinds


def sends_notifications(kind: str) -> bool:
    """Whether registries of a kind can send notifications that we can read."""
    return isinstance(_load(kind), _Notifies)


def read_notification(kind: str, body: bytes) -> Notification:
    """Return what a registry's notification names.

    Raises:
        InvalidParameterError: the body is none, or the kind sends none that we can read.
    """
    loaded = _load(kind)
    if not isinstance(loaded, _Notifies):
        raise InvalidParameterError("registry_id", f"{kind} registries send no notifications")
    return loaded.notified(body)


def check_registry(
    kind: str, address: str, options: Mapping[str, Any], credential: RegistryCredential
) -> None:
    """Check a registry's settings before they are kept.

    Raises:
        InvalidParameterError: naming the parameter and what would be accepted.
    """
    loaded = _load(kind)
    _check_access(loaded, kind, address, credential)
    loaded.check(read_options(loaded.Options, options), credential)


def check_certificates(ca_pem: str | None) -> None:
    """Check a registry's own certificates before they are kept.

    Raises:
        InvalidParameterError: there is none among them.
    """
    if ca_pem:
        # With its library, which costs a tenth of a second.
        from wharfinger.sources._http import tls_context  # noqa: PLC0415 - see above

        tls_context(ca_pem)


def _check_access(
    loaded: SourceKind, kind: str, address: str, credential: RegistryCredential
) -> None:
    _check_address(address)
    if credential.kind not in loaded.credential_kinds:
        known = ", ".join(sorted(loaded.credential_kinds))
        raise InvalidParameterError("credential", f"{kind} takes one of: {known}")
    _check_secret(credential)


def read_options(shape: type[Any], options: Mapping[str, Any]) -> Any:
    """Return the options as the kind's dataclass.

    A command line gives text: ``true`` and ``false`` are what they say, and ``a,b`` is a list
    where a list is wanted.

    Raises:
        InvalidParameterError: an option is unknown, or out of its range.
    """
    known = {field.name for field in dataclasses.fields(shape)}
    for name in options:
        if name not in known:
            raise InvalidParameterError(
                f"options.{name}", f"is unknown; known are {', '.join(sorted(known))}"
            )
    try:
        return msgspec.convert(_as_meant(shape, options), shape)
    except msgspec.ValidationError as exc:
        rule, _, path = str(exc).partition(" - at ")
        name = path.strip("`$.") or "options"
        raise InvalidParameterError(f"options.{name}", rule) from exc


def _as_meant(shape: type[Any], options: Mapping[str, Any]) -> dict[str, Any]:
    wanted = {field.name: field.default for field in dataclasses.fields(shape)}
    meant = dict(options)
    for name, value in options.items():
        if isinstance(value, str) and isinstance(wanted[name], bool):
            meant[name] = {"true": True, "false": False}.get(value.lower(), value)
        elif isinstance(value, str) and isinstance(wanted[name], tuple):
            meant[name] = [part.strip() for part in value.split(",") if part.strip()]
    return meant


def _load(kind: str) -> SourceKind:
    if kind not in KINDS:
        raise InvalidParameterError("kind", f"must be one of {', '.join(KINDS)}")
    module, _, name = KINDS[kind].partition(":")
    return cast("SourceKind", getattr(importlib.import_module(module), name))


def _check_address(address: str) -> None:
    try:
        parts = urlsplit(address)
        parts.port  # noqa: B018 - reading it is the check
    except ValueError as exc:
        raise InvalidParameterError("address", "must be a URL") from exc
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InvalidParameterError("address", "must be a URL with https:// or http:// and a host")
    if not address.isascii() or "\\" in address:
        raise InvalidParameterError(
            "address", "must be ASCII: other names in their xn-- form, a path percent-encoded"
        )
    if "@" in parts.netloc:
        raise InvalidParameterError("address", "must not hold credentials; give them separately")
    if parts.query or parts.fragment or any(c.isspace() or not c.isprintable() for c in address):
        raise InvalidParameterError("address", "must have no query, fragment or blanks")


def _check_secret(credential: RegistryCredential) -> None:
    if credential.kind in ("basic", "access_key") and not credential.identity:
        raise InvalidParameterError("credential", "needs a user name or an access key")
    if credential.reference:
        check_reference(credential.reference)
    elif credential.kind != "none" and not credential.secret:
        raise InvalidParameterError("credential", "needs its secret")
    if any(char in credential.identity + credential.secret for char in "\r\n\0"):
        raise InvalidParameterError("credential", "must not hold line breaks")
