"""The values that travel between the parts of Wharfinger; all of them are immutable."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any, Generic, TypeVar

import msgspec

from wharfinger.domain.artifacts import Referrer
from wharfinger.domain.errors import NotAllowedError, NotGrantedError
from wharfinger.domain.policy import ADMINISTRATOR, Policy, may

T = TypeVar("T")

DEFAULT_ENTERPRISE_PROJECT = "0"
ALL_GRANTED_ENTERPRISE_PROJECTS = "all_granted_eps"


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """From where something is asked for, for the audit.

    ``source`` is an address, or "command line".
    """

    source: str = ""
    user_agent: str = ""
    request_id: str = ""


class Caller(msgspec.Struct, frozen=True, kw_only=True):
    """Who is asking, once it is known.

    ``project_id`` is "" for a token that opens no project. ``account_id`` is what Keystone calls
    the domain. Without ``user_id`` the project's account itself asks. ``enterprise_projects`` are
    the ids granted to the caller, ``sees_every_enterprise_project`` whether that is all there are
    and will be. The operator works on this machine's command line; nobody who calls over HTTP is.
    """

    project_id: str
    project_name: str
    principal: str  # for the audit: "access key AKIA…" or "token"
    enterprise_projects: tuple[str, ...] = (DEFAULT_ENTERPRISE_PROJECT,)
    sees_every_enterprise_project: bool = False
    account_id: str = ""
    user_id: str = ""
    user_name: str = ""
    policies: tuple[Policy, ...] = (ADMINISTRATOR,)
    access_key: str = ""  # that signed the call
    origin: Origin = Origin()
    is_operator: bool = False

    def require(self, action: str, *, free: bool = False) -> None:
        """Refuse what no policy of the caller allows; ``free`` as ``policy.may`` has it.

        Raises:
            NotAllowedError: it names the action.
        """
        if not may(self.policies, action, free=free):
            raise NotAllowedError(action)

    def granted(self, asked_for: str) -> tuple[str, ...]:
        """The enterprise projects that a call speaks of.

        Raises:
            NotGrantedError: one that the caller may not see, or that does not exist, which cannot
                be told apart; or the caller may see none. It is refused, not skipped.
        """
        if asked_for == ALL_GRANTED_ENTERPRISE_PROJECTS:
            if not self.enterprise_projects:
                raise NotGrantedError("enterprise_project_id: none is granted to the caller")
            return self.enterprise_projects
        if asked_for not in self.enterprise_projects:
            raise NotGrantedError(
                f"enterprise_project_id: {asked_for!r} is not granted to the caller"
            )
        return (asked_for,)

    def within(self, asked_for: str) -> Caller:
        """The same caller, who sees no more than the enterprise projects a call speaks of.

        Raises:
            NotGrantedError: as ``granted``.
        """
        return msgspec.structs.replace(self, enterprise_projects=self.granted(asked_for))


# What nobody asked for: daily pruning, the sample, a project made because a token named it.
OURSELVES = Caller(project_id="", project_name="", principal="wharfinger")


# How HSS calls kinds of registry.
HSS_KINDS = ("SwrPrivate", "SwrShared", "SwrEnterprise", "Harbor", "Jfrog", "Other")


def hss_kind(kind: str) -> str:
    """How HSS calls a kind; one that it has no word for is ``Other``."""
    return kind if kind in HSS_KINDS else "Other"


class RepositoryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which repositories are wanted: patterns of paths, in which ``*`` stands for anything.

    What is left empty wants everything. ``named`` are whole paths, and ``matching`` patterns beside
    them; ``below`` are paths of what lies at or below them. ``exclude`` wins.
    """

    named: frozenset[str] = frozenset()
    matching: tuple[str, ...] = ()
    namespaces: tuple[str, ...] = ()
    below: tuple[str, ...] = ()
    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def covers(self, namespace: str, name: str) -> bool:
        """Whether a repository is wanted."""
        path = f"{namespace}/{name}" if namespace else name
        named = path in self.named or not (self.named or self.matching)
        named = named or any(fnmatchcase(path, p) for p in self.matching)
        inside = not self.namespaces or namespace in self.namespaces
        inside &= not self.below or any(f"{path}/".startswith(f"{p}/") for p in self.below)
        included = not self.include or any(fnmatchcase(path, p) for p in self.include)
        return named and inside and included and not any(fnmatchcase(path, p) for p in self.exclude)

    def __bool__(self) -> bool:
        """Whether anything is left out."""
        return any(
            (
                self.named,
                self.matching,
                self.namespaces,
                self.below,
                self.include,
                self.exclude,
            )
        )


class RegistryRef(msgspec.Struct, frozen=True, kw_only=True):
    """What a source needs to know about one registry of one project.

    ``options`` holds the kind's own options, as the dataclass beside the kind's class reads
    them. ``generation`` grows with every change of address, credential or filter, so that a
    cursor made under another configuration is not believed.
    """

    id: str
    project_id: str
    name: str
    kind: str
    address: str
    region: str = ""
    enterprise_project_id: str = DEFAULT_ENTERPRISE_PROJECT
    options: Mapping[str, Any] = {}
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    generation: int = 1
    ca_pem: str | None = None
    allow_private_networks: bool = False


class RegistryCredential(msgspec.Struct, frozen=True, kw_only=True):
    """A secret in the clear, as short-lived as possible; never logged, never in a job.

    ``identity`` is a user name, an access key, or empty for a bare IAM token. ``reference`` names
    where the secret is kept instead of here: ``env:NAME``, ``file:/PATH`` or ``exec:COMMAND``.
    """

    kind: str  # "none", "basic", "access_key" or "token"
    identity: str = ""
    secret: str = ""
    reference: str = ""

    def __repr__(self) -> str:
        return f"RegistryCredential(kind={self.kind!r}, identity={self.identity!r}, secret=***)"


class FoundRegistry(msgspec.Struct, frozen=True, kw_only=True):
    """One of the registries that a kind's service has, before anybody has added it.

    ``url`` is where its images are pulled from; ``expires_at`` is ``None`` for one without an end.
    """

    id: str
    name: str
    url: str
    version: str
    status: str
    created_at: dt.datetime | None
    expires_at: dt.datetime | None


class RepositoryName(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A repository's name, split as ``RepositoryRef`` splits it."""

    namespace: str
    name: str


class Notification(msgspec.Struct, frozen=True, kw_only=True):
    """What a registry's notification names: repositories to look at, and how much else it told.

    Nothing in it is believed but that something may have happened there.
    """

    repositories: tuple[RepositoryName, ...]
    ignored: int


class RepositoryRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One repository as a registry lists it.

    ``namespace`` is the first path segment (SWR: the organisation), ``name`` the rest, which may
    itself hold ``/``. ``fingerprint`` says "unchanged" when it is equal to the one stored; ``None``
    means the listing carried nothing to trust. ``images`` is the number of images the listing's
    own row claims, ``None`` if it claims nothing.
    """

    namespace: str
    name: str
    fingerprint: str | None = None
    images: int | None = None
    updated_at: dt.datetime | None = None
    owner: str = ""  # the account that owns a shared repository (SWR ``domain_name``)
    shared_status: str = ""  # "effective", "expired", or "" when it is not shared


class Platform(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One child of an index: a manifest for an operating system and an architecture."""

    digest: str
    os: str = ""
    architecture: str = ""
    variant: str = ""
    size: int = 0  # bytes: config and layers
    image_id: str = ""  # the child's config digest, where known


class Image(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """What a digest is. Content-addressed: it holds for every tag that names the digest.

    ``image_id`` is the digest of the config; of an index its own digest. ``size`` is in bytes:
    config and layers, or the sum over the platforms of an index. ``created_at`` is ``None`` where
    the image does not say, or says something no clock could have said.
    """

    digest: str
    image_id: str
    size: int
    media_type: str = ""
    artifact_type: str = ""  # "" for a container image; otherwise what the manifest declares
    created_at: dt.datetime | None = None
    is_index: bool = False
    platforms: tuple[Platform, ...] = ()


class TagRef(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One tag of a repository as its listing gives it.

    ``tag`` is ``None`` for an untagged artifact. ``image`` is set by sources whose listing tells
    everything (SWR); where it is ``None`` the engine asks ``Source.describe`` for digests that
    the store lacks. ``updated_at`` is the time the registry says the tag last moved. ``attached``
    is what belongs to the digest, ``None`` where the listing does not tell.
    """

    tag: str | None
    digest: str
    updated_at: dt.datetime | None = None
    image: Image | None = None
    attached: tuple[Referrer, ...] | None = None


class Cursor(msgspec.Struct, frozen=True, kw_only=True):
    """Where a listing stands, bound to everything it depends on.

    ``resumable`` is false for offsets: over a list that changed meanwhile an offset skips rows,
    so such a listing begins again after an interruption.
    """

    kind: str
    api: str
    page_size: int
    sort: str
    generation: int
    position: str
    resumable: bool


class Page(msgspec.Struct, Generic[T], frozen=True, kw_only=True):
    """A page of a listing. ``next`` is ``None`` on the last page of a complete listing."""

    items: tuple[T, ...]
    next: Cursor | None
    total: int | None = None  # the number of rows the registry says the whole list has


class VerdictState(StrEnum):
    """How much a stored list can be believed."""

    COMPLETE = "complete"
    PARTIAL = "partial"
    STALE = "stale"  # complete once, but longer ago than the registry's limit
    NEVER = "never"


class TwoStrikes(StrEnum):
    """When an image is retired only after a second complete listing lacks it, too."""

    AUTO = "auto"  # once the registry has contradicted itself
    ON = "on"
    OFF = "off"


class Reason(msgspec.Struct, frozen=True, kw_only=True):
    """Why something is not complete, for machines (``code``) and people (``message``)."""

    code: str
    message: str
    repository: str | None = None


class ChangeKind(StrEnum):
    """The kinds of event in the change feed."""

    ADDED = "added"
    MOVED = "moved"
    RETIRED = "retired"
    RESTORED = "restored"
    HIDDEN = "hidden"  # a filter leaves it out: not gone, and not listed
    SHOWN = "shown"


class RunState(StrEnum):
    """The life of a run."""

    QUEUED = "queued"
    RUNNING = "running"
    FINISHED = "finished"


class RunOutcome(StrEnum):
    """How a finished run ended."""

    COMPLETE = "complete"
    HELD = "held"
    PARTIAL = "partial"
    FAILED = "failed"


class RunProgress(msgspec.Struct, frozen=True, kw_only=True):
    """A run as it stands, for progress bars, task lists and reports."""

    id: str
    registry_id: str
    registry_name: str
    registry_kind: str
    state: RunState
    outcome: RunOutcome | None
    full: bool
    repositories_total: int
    repositories_done: int
    repositories_failed: int
    images: int  # tag rows read, and images confirmed by fingerprint
    requests: int
    added: int
    moved: int
    retired: int
    restored: int
    held: int
    queued_at: dt.datetime
    started_at: dt.datetime | None
    finished_at: dt.datetime | None
    reasons: tuple[Reason, ...] = ()


class TaskProgress(msgspec.Struct, frozen=True, kw_only=True):
    """One call that asked for a sync, and the runs it points to."""

    id: str
    name: str
    sync_type: str  # "manualSync" or "autoSync"
    created_at: dt.datetime
    finished_at: dt.datetime | None
    runs: tuple[RunProgress, ...]
    everything: bool = False  # every registry was asked for, not some by name or kind


class TaskFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which tasks are asked for; ``None`` leaves a question out.

    ``status`` is "scanning" for tasks with a run that is not finished, or "finished".
    """

    task_id: str | None = None
    name_contains: str | None = None
    sync_type: str | None = None
    created_from: dt.datetime | None = None
    created_to: dt.datetime | None = None
    status: str | None = None


class HeldImage(msgspec.Struct, frozen=True, kw_only=True):
    """An image that a complete listing lacked, listed until somebody accepts that it is gone."""

    id: int
    namespace: str
    name: str
    tag: str | None
    digest: str
    held_since: dt.datetime
