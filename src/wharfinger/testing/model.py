"""The world behind the upstream: accounts, organisations, repositories, tags and shares."""

from __future__ import annotations

import datetime as dt
import hashlib
import threading
import uuid
from dataclasses import dataclass, field

from wharfinger.testing.content import Content, image, index

_BEGINNING = dt.datetime(2024, 3, 4, 8, 0, 0, 541_840, tzinfo=dt.UTC)
# A word in every secret of every made-up registry, so that a leak of any of them can be found.
PLANTED = "quagga"
_TICK = dt.timedelta(seconds=7, microseconds=1_307)


class UnknownNameError(LookupError):
    """The world has no such account, repository, tag or share."""


class Clock:
    """The registry's clock. It stands still but for 7 s a change, or follows the real one.

    A standing clock makes two worlds built by the same calls equal, byte for byte.
    """

    def __init__(self, start: dt.datetime = _BEGINNING) -> None:
        self._now: dt.datetime | None = start

    def now(self) -> dt.datetime:
        """The time at the registry, in UTC."""
        return self._now or dt.datetime.now(dt.UTC)

    def set(self, moment: dt.datetime) -> None:
        """Stop the clock at this moment."""
        self._now = moment

    def advance(self, seconds: float) -> None:
        """Move a standing clock; a clock that follows the real one stops there."""
        self._now = self.now() + dt.timedelta(seconds=seconds)

    def follow_real_time(self) -> None:
        """Show the real time from now on."""
        self._now = None

    def tick(self) -> dt.datetime:
        """The time of the next change."""
        if self._now is not None:
            self._now += _TICK
        return self.now()


@dataclass(slots=True, kw_only=True)
class Tag:
    """One tag; its ``id`` survives a move, its times are not those of the image."""

    id: int
    name: str
    content: Content
    created: dt.datetime | str
    updated: dt.datetime | str


@dataclass(slots=True, kw_only=True)
class Accessory:
    """Something that belongs to an artifact and is listed with it only, like a signature."""

    id: int
    digest: str
    type: str
    size: int
    created: dt.datetime


@dataclass(slots=True, kw_only=True)
class Artifact:
    """What the enterprise edition keeps of a push, with a tag or without."""

    id: int
    content: Content
    pushed: dt.datetime | str
    type: str = "IMAGE"
    media_type: str = ""  # of the config, where it is not that of an image
    accessories: list[Accessory] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Share:
    """A repository lent to another account; ``expires`` is ``None`` for a share without end."""

    account: str
    created: dt.datetime
    expires: dt.datetime | None


@dataclass(slots=True, kw_only=True)
class Repository:
    """One repository and the row a listing shows of it.

    ``size``, ``num_images`` and ``updated`` are the row's own claims: they follow the tags unless a
    change was made quietly or a test sets them to something else.
    """

    id: int
    namespace: str
    name: str
    account: str
    created: dt.datetime | str
    updated: dt.datetime | str
    size: int = 0
    num_images: int = 0
    num_download: int = 0
    is_public: bool = False
    category: str = "other"
    description: str = ""
    tags: dict[str, Tag] = field(default_factory=dict)
    shares: dict[str, Share] = field(default_factory=dict)
    row_tags: tuple[str, ...] | None = None  # tag names the row claims; None: those there are
    untagged: dict[str, Content] = field(default_factory=dict)  # content without a tag, by digest
    artifacts: dict[str, Artifact] = field(default_factory=dict)  # by digest; instances only

    @property
    def path(self) -> str:
        """``namespace/name``."""
        return f"{self.namespace}/{self.name}"


@dataclass(slots=True, kw_only=True)
class Namespace:
    """An organisation of SWR: the first segment of every path in it."""

    id: int
    name: str
    account: str
    created: dt.datetime


@dataclass(slots=True, kw_only=True)
class Instance:
    """An instance of SWR's enterprise edition: a registry of an account, with its own content.

    ``expires`` is the year 1 where it does not, which is what the cloud writes.
    """

    id: str
    name: str
    account: str
    content: World
    created: dt.datetime
    version: str = "25.6.7"
    status: str = "Running"
    expires: dt.datetime | str = "0001-01-01T00:00:00Z"


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A tenant (IAM domain) with its one project in the world's region and its one user."""

    name: str
    domain_id: str
    project_id: str
    user_id: str
    password: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessKey:
    """A key pair of an account, for ``SDK-HMAC-SHA256`` signatures."""

    account: str
    access_key: str
    secret_key: str = field(repr=False)


class World:
    """All that an upstream knows. Every change is one call; nothing else changes by itself.

    The same calls in the same order give the same ids, digests and times. Calls may come from
    any thread. Paths are ``namespace/name``, where the name may hold ``/``; a namespace is made
    by the first push into it and belongs to ``account`` then.

    ``keeps_artifacts`` is for the content of an instance: what was pushed stays, by its digest,
    when its last tag has moved away or was deleted.

    Raises:
        UnknownNameError: by everything that names what is not there.
    """

    def __init__(
        self,
        *,
        account: str = "acme",
        region: str = "cn-north-4",
        registry_host: str = "",
        clock: Clock | None = None,
        keeps_artifacts: bool = False,
    ) -> None:
        self.lock = threading.RLock()
        self.keeps_artifacts = keeps_artifacts
        self.clock = clock or Clock()
        self.region = region
        self.registry_host = registry_host or f"swr.{region}.myhuaweicloud.com"
        self.accounts: dict[str, Account] = {}
        self.keys: dict[str, AccessKey] = {}
        self.namespaces: dict[str, Namespace] = {}
        self.repositories: dict[str, Repository] = {}
        self.instances: dict[str, Instance] = {}
        self._ids = 0
        self.home = self.account(account)

    # --- who ------------------------------------------------------------------------------

    def account(self, name: str) -> Account:
        """The account of this name, made when it is new."""
        with self.lock:
            if name not in self.accounts:
                self.accounts[name] = Account(
                    name=name,
                    domain_id=_hex_id(f"domain {name}"),
                    project_id=_hex_id(f"project {name} {self.region}"),
                    user_id=_hex_id(f"user {name}"),
                    password=f"{name}-{PLANTED}-Password-1",
                )
            return self.accounts[name]

    def access_key(self, account: str = "") -> AccessKey:
        """A key pair of the account (by default of ``home``); the same one every time."""
        owner = self.account(account or self.home.name)
        access_key = "AK" + _hex_id(f"ak {owner.name}")[:18].upper()
        with self.lock:
            if access_key not in self.keys:
                chance = hashlib.sha256(f"sk {owner.name}".encode()).hexdigest()
                secret_key = (PLANTED + chance)[:40]
                self.keys[access_key] = AccessKey(
                    account=owner.name, access_key=access_key, secret_key=secret_key
                )
            return self.keys[access_key]

    # --- what -----------------------------------------------------------------------------

    def instance(
        self, name: str, *, account: str = "", version: str = "25.6.7", status: str = "Running"
    ) -> Instance:
        """The enterprise instance of this name, made when it is new; its content is a world."""
        owner = self.account(account or self.home.name).name
        with self.lock:
            key = str(uuid.UUID(_hex_id(f"instance {name} {owner}")))
            if key not in self.instances:
                content = World(
                    account=owner,
                    region=self.region,
                    registry_host=f"{name}-{key[:6]}.swr-pro.myhuaweicloud.com",
                    clock=self.clock,
                    keeps_artifacts=True,
                )
                content.lock = self.lock
                self.instances[key] = Instance(
                    id=key,
                    name=name,
                    account=owner,
                    content=content,
                    created=self.clock.tick(),
                    version=version,
                    status=status,
                )
            return self.instances[key]

    def namespace(self, name: str, *, account: str = "") -> Namespace:
        """The organisation of this name, made for ``account`` when it is new."""
        with self.lock:
            if name not in self.namespaces:
                owner = self.account(account or self.home.name)
                self.namespaces[name] = Namespace(
                    id=self._next_id(), name=name, account=owner.name, created=self.clock.now()
                )
            return self.namespaces[name]

    def create_repository(
        self, path: str, *, account: str = "", is_public: bool = False, category: str = "other"
    ) -> Repository:
        """An empty repository, or the one that is there already."""
        with self.lock:
            if path in self.repositories:
                return self.repositories[path]
            namespace, name = path.split("/", 1)
            owner = self.namespace(namespace, account=account).account
            now = self.clock.tick()
            made = Repository(
                id=self._next_id(),
                namespace=namespace,
                name=name,
                account=owner,
                created=now,
                updated=now,
                is_public=is_public,
                category=category,
            )
            self.repositories[path] = made
            return made

    def repository(self, path: str) -> Repository:
        """The repository of this path."""
        try:
            return self.repositories[path]
        except KeyError:
            raise UnknownNameError(f"no repository {path}") from None

    def tag(self, path: str, tag: str) -> Tag:
        """One tag of a repository."""
        try:
            return self.repository(path).tags[tag]
        except KeyError:
            raise UnknownNameError(f"no tag {path}:{tag}") from None

    def tags(self, path: str) -> list[Tag]:
        """The tags of a repository."""
        return list(self.repository(path).tags.values())

    # --- changes --------------------------------------------------------------------------

    def push(
        self,
        path: str,
        tag: str,
        *,
        content: Content | None = None,
        size: int | None = None,
        platforms: tuple[str, ...] = (),
        account: str = "",
        quiet: bool = False,
    ) -> Tag:
        """Push an image under a tag; a tag that is there moves.

        Args:
            path: the repository; made when it is new.
            tag: the tag's name.
            content: what to push; by default something new that nobody pushed before.
            size: bytes of the image (of each platform, with ``platforms``).
            platforms: ``("linux/amd64", "linux/arm64/v8")`` pushes a manifest list over these.
            account: who owns the namespace, when the push makes it.
            quiet: leave the repository's row (time, size, number) as it was, so that a listing
                shows nothing of the change: a standing fingerprint.
        """
        with self.lock:
            repository = self.create_repository(path, account=account)
            now = self.clock.tick()
            pushed = content or self._new_content(f"{path}:{tag}", size, platforms, now)
            before = repository.tags.get(tag)
            placed = Tag(
                id=before.id if before else self._next_id(),
                name=tag,
                content=pushed,
                created=before.created if before else now,
                updated=now,
            )
            repository.tags[tag] = placed
            if self.keeps_artifacts:
                self._keep(repository, pushed, now)
            if not quiet:
                repository.size += pushed.size - (before.content.size if before else 0)
                repository.num_images = len(repository.tags)
                repository.updated = now
            return placed

    def move(
        self, path: str, tag: str, *, content: Content | None = None, quiet: bool = False
    ) -> Tag:
        """Push something else of the same size under a tag that exists."""
        with self.lock:
            standing = self.tag(path, tag)
            platforms = tuple(
                "/".join(filter(None, (child.os, child.architecture, child.variant)))
                for child in standing.content.children
            )
            size = standing.content.size // max(len(platforms), 1)
            return self.push(
                path, tag, content=content, size=size, platforms=platforms, quiet=quiet
            )

    def delete_tag(self, path: str, tag: str, *, quiet: bool = False) -> None:
        """Delete a tag; its content is gone unless another tag names it."""
        with self.lock:
            gone = self.tag(path, tag)
            repository = self.repository(path)
            del repository.tags[tag]
            now = self.clock.tick()
            if not quiet:
                repository.size -= gone.content.size
                repository.num_images = len(repository.tags)
                repository.updated = now

    def delete_artifact(self, path: str, digest: str) -> None:
        """Delete what an instance keeps under a digest, and the tags that name it."""
        with self.lock:
            repository = self.repository(path)
            if repository.artifacts.pop(digest, None) is None:
                raise UnknownNameError(f"no artifact {path}@{digest}")
            for name in [n for n, t in repository.tags.items() if t.content.digest == digest]:
                self.delete_tag(path, name)
            repository.updated = self.clock.tick()

    def attach(self, path: str, digest: str, *, kind: str = "signature.cosign") -> Accessory:
        """Attach something to an artifact of an instance, as ``cosign sign`` does."""
        with self.lock:
            now = self.clock.tick()
            made = image(f"{kind} of {digest}", created=now, size=4_096)
            belonging = Accessory(
                id=self._next_id(), digest=made.digest, type=kind, size=made.size, created=now
            )
            try:
                self.repository(path).artifacts[digest].accessories.append(belonging)
            except KeyError:
                raise UnknownNameError(f"no artifact {path}@{digest}") from None
            return belonging

    def delete_repository(self, path: str) -> None:
        """Delete a repository with its tags and shares."""
        with self.lock:
            self.repository(path)
            del self.repositories[path]
            self.clock.tick()

    def delete_namespace(self, name: str) -> None:
        """Delete an organisation with all its repositories."""
        with self.lock:
            for path in [p for p, r in self.repositories.items() if r.namespace == name]:
                self.delete_repository(path)
            if self.namespaces.pop(name, None) is None:
                raise UnknownNameError(f"no namespace {name}")

    def share(self, path: str, account: str, *, expires: dt.datetime | None = None) -> Share:
        """Lend a repository to another account, without end or until ``expires``."""
        with self.lock:
            lent = Share(
                account=self.account(account).name, created=self.clock.tick(), expires=expires
            )
            self.repository(path).shares[account] = lent
            return lent

    def unshare(self, path: str, account: str) -> None:
        """Take a share back."""
        with self.lock:
            if self.repository(path).shares.pop(account, None) is None:
                raise UnknownNameError(f"{path} is not shared with {account}")
            self.clock.tick()

    # --- selections -----------------------------------------------------------------------

    def owned(self, account: str = "") -> list[Repository]:
        """The account's own repositories (by default those of ``home``), oldest first."""
        name = account or self.home.name
        with self.lock:
            return [r for r in self.repositories.values() if r.account == name]

    def shared_with(self, account: str = "") -> list[Repository]:
        """What other accounts lend to this one."""
        name = account or self.home.name
        with self.lock:
            return [r for r in self.repositories.values() if name in r.shares]

    def shared_by(self, account: str = "") -> list[Repository]:
        """What this account lends to others."""
        return [r for r in self.owned(account) if r.shares]

    def share_is_valid(self, repository: Repository, account: str) -> bool:
        """Whether the account may still read the repository that was lent to it."""
        lent = repository.shares.get(account)
        return lent is not None and (lent.expires is None or self.clock.now() < lent.expires)

    def images(self, account: str = "") -> set[tuple[str, str, str]]:
        """Every ``(path, tag, digest)`` of an account: what a complete list must hold."""
        return {
            (repository.path, tag.name, tag.content.digest)
            for repository in self.owned(account)
            for tag in repository.tags.values()
        }

    def artifacts(self) -> set[tuple[str, str, str]]:
        """Every ``(path, tag, digest)`` of an instance; what has no tag has "" in its place."""
        untagged = {
            (repository.path, "", digest)
            for repository in self.owned()
            for digest in repository.artifacts.keys()
            - {tag.content.digest for tag in repository.tags.values()}
        }
        return self.images() | untagged

    # --- inside ---------------------------------------------------------------------------

    def _keep(self, repository: Repository, pushed: Content, now: dt.datetime) -> None:
        if pushed.digest not in repository.artifacts:
            repository.artifacts[pushed.digest] = Artifact(
                id=self._next_id(), content=pushed, pushed=now
            )

    def _next_id(self) -> int:
        self._ids += 1
        return self._ids

    def _new_content(
        self, name: str, size: int | None, platforms: tuple[str, ...], now: dt.datetime
    ) -> Content:
        seed = f"{name}#{self._next_id()}"
        created = now - dt.timedelta(minutes=3)
        if platforms:
            return index(seed, created=created, platforms=platforms, size=size)
        return image(seed, created=created, size=size)


def made_up_world(repositories: int, tags: int, *, account: str = "acme") -> World:
    """A plain world of ``repositories`` times ``tags`` images, for benches and paging tests.

    Names are ``bench-00/service-00000`` onwards, fifty organisations at most; tags ``v1.0``, …
    """
    world = World(account=account)
    for number in range(repositories):
        path = f"bench-{number % 50:02}/service-{number:05}"
        world.create_repository(path)
        for version in range(tags):
            world.push(path, f"v1.{version}")
    return world


def _hex_id(seed: str) -> str:
    return hashlib.sha256(seed.encode()).hexdigest()[:32]
