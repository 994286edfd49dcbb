"""Any registry that speaks the OCI distribution protocol, over its catalog or a given list."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, ClassVar, Literal

import msgspec

from wharfinger.domain.artifacts import Referrers
from wharfinger.domain.errors import (
    CredentialsError,
    InvalidParameterError,
    UnsupportedError,
)
from wharfinger.domain.model import (
    Cursor,
    Image,
    Notification,
    Page,
    RegistryCredential,
    RegistryRef,
    RepositoryRef,
    TagRef,
)
from wharfinger.domain.ports import Http
from wharfinger.sources._distribution import Distribution
from wharfinger.sources._oci_login import RegistryLogin
from wharfinger.sources._paths import (
    is_pattern,
    path_of,
    repository_at,
    spelled_out,
    split_path,
)

_NAME = re.compile(
    r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*(?:/[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*)*"
)

_NEEDS_A_LIST = (
    "can only be looked up in one: write the names out, or spell them as {a,b} or {1..9}"
)


@dataclass(frozen=True, kw_only=True)
class OciOptions:
    """What can be set for an OCI registry besides address and credential."""

    repositories: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "the repositories to read, {a,b} and {1..9} spelled out, * and ? looked up in"
            " the catalog; without any, all of that"
        },
    )
    page_size: Annotated[int, msgspec.Meta(ge=1, le=10000)] = field(
        default=1000, metadata={"help": "rows asked for at a time, 1 to 10000"}
    )
    login: Literal["auto", "entra"] = field(
        default="auto",
        metadata={"help": "auto: as the registry asks; entra: exchange an Entra token at ACR"},
    )
    referrers: bool = field(
        default=True,
        metadata={"help": "ask what belongs to each new image (one request for each)"},
    )


class _Target(msgspec.Struct, frozen=True, rename="camel"):
    repository: str = ""
    media_type: str = ""
    tag: str = ""


class _Event(msgspec.Struct, frozen=True):
    """An event of docker-registry's notifications, as far as it is looked at."""

    action: str = ""
    target: _Target = _Target()

    @property
    def tells_of_a_manifest(self) -> bool:
        """Whether a list of tags may have changed."""
        path = self.target.repository
        if self.action not in ("push", "delete") or len(path) > 255 or not _NAME.fullmatch(path):
            return False
        # Layers are pushed, too. What is deleted comes with a tag or a digest and nothing else.
        kind = self.target.media_type
        return self.action == "delete" or bool(self.target.tag) or "manifest" in kind


class _Envelope(msgspec.Struct, frozen=True):
    events: Annotated[tuple[_Event, ...], msgspec.Meta(max_length=100_000)]


class Other:
    """A registry of which nothing is known but that it speaks the protocol."""

    Options: ClassVar[type[OciOptions]] = OciOptions
    credential_kinds: ClassVar[frozenset[str]] = frozenset({"none", "basic", "token"})
    kind: ClassVar[str] = "Other"

    def __init__(self, registry: RegistryRef, credential: RegistryCredential, http: Http) -> None:
        self._options = msgspec.convert(dict(registry.options), OciOptions)
        self._named = spelled_out(self._options.repositories)
        self._distribution = Distribution(
            kind=self.kind,
            root=registry.address.rstrip("/"),
            login=RegistryLogin(
                registry.address, credential, http, exchange=self._options.login == "entra"
            ),
            http=http,
            page_size=self._options.page_size,
            generation=registry.generation,
        )

    @property
    def asks_for_referrers(self) -> bool:
        """Whether the registry is asked; see ``ports.ListsReferrers``."""
        return self._options.referrers

    @staticmethod
    def check(options: OciOptions, credential: RegistryCredential) -> None:
        """Demand that every given name is one that a registry could have."""
        if options.login == "entra" and credential.kind != "basic":
            raise InvalidParameterError(
                "options.login", "entra needs a user name, which may be any, and the token"
            )
        for name in spelled_out(options.repositories):
            if len(name) > 255 or not _NAME.fullmatch(name.replace("*", "a").replace("?", "a")):
                raise InvalidParameterError(
                    "options.repositories", f"{name!r} is no repository name (like team/app)"
                )

    @staticmethod
    def notified(body: bytes) -> Notification:
        """Read what docker-registry's ``notifications.endpoints`` send; see ``read_notification``.

        What is no push or deletion of a manifest is ignored rather than refused: a registry sends
        a refused envelope again for ever, and everything after it waits.
        """
        try:
            envelope = msgspec.json.decode(body, type=_Envelope)
        except msgspec.DecodeError as exc:
            raise InvalidParameterError(
                "body", "must be an envelope of events, as docker-registry sends them"
            ) from exc
        told = [event for event in envelope.events if event.tells_of_a_manifest]
        names = {event.target.repository: None for event in told}
        return Notification(
            repositories=tuple(map(split_path, names)), ignored=len(envelope.events) - len(told)
        )

    async def repositories(self, after: Cursor | None) -> AsyncIterator[Page[RepositoryRef]]:
        """List the catalog, or the repositories that were named; see ``ports.Source``.

        Where a pattern was given, the catalog is listed in full: what does not match is left out
        by whoever knows that it is then hidden and not gone.
        """
        # Insertion order is kept, and looking a name up costs the same however many there are.
        names = {name: None for name in self._named if not is_pattern(name)}
        patterns = [name for name in self._named if is_pattern(name)]
        if self._named and not patterns:
            yield Page(items=tuple(map(repository_at, names)), next=None, total=len(names))
            return
        try:
            async for found, ahead in self._distribution.catalog(after):
                # What is named comes once, with the last page, whether the catalog has it or not.
                others = [name for name in found if name not in names]
                rows = others if ahead is not None else [*others, *names]
                yield Page(items=tuple(map(repository_at, rows)), next=ahead)
        except (UnsupportedError, CredentialsError) as exc:
            if patterns:
                raise type(exc)(f"{exc}; {patterns[0]} {_NEEDS_A_LIST}") from exc
            raise

    async def tags(
        self, repository: RepositoryRef, after: Cursor | None
    ) -> AsyncIterator[Page[TagRef]]:
        """List a repository's tags, each with its digest; see ``ports.Source``."""
        path = path_of(repository)
        # A name that was spelled out may be one too many; one that was written down is not.
        named = path in self._options.repositories
        async for tags, ahead in self._distribution.tags_of(path, after, named=named):
            yield Page(items=tuple(tags), next=ahead)

    async def describe(
        self, repository: RepositoryRef, tags: Sequence[TagRef]
    ) -> AsyncIterator[Image]:
        """Read the manifests behind digests, each once; see ``ports.Source``."""
        digests = list(dict.fromkeys(tag.digest for tag in tags))
        async for image in self._distribution.images(path_of(repository), digests):
            yield image

    async def referrers(
        self, repository: RepositoryRef, digest: str, tags: Sequence[str] = ()
    ) -> Referrers:
        """List what belongs to a digest; see ``ports.ListsReferrers``."""
        return await self._distribution.referrers(path_of(repository), digest, tags)

    async def aclose(self) -> None:
        """Forget the manifests; the connections are the transport's."""
        self._distribution.forget()
