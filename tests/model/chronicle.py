"""What was true upstream, and what was shown of it, at every moment of an example."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from urllib.parse import unquote

import msgspec

from wharfinger.testing.content import Content
from wharfinger.testing.faults import Answer, Asked
from wharfinger.testing.model import World

PATHS = ("team-a/app", "team-a/web", "team-b/db/main", "team-b/cache", "team-c/tool")
TAGS = ("v1", "v2", "v3", "v4", "v5", "v6")

_LISTS = re.compile(
    r"/v[23]/manage/namespaces/(?P<namespace>[^/]+)/repos/(?P<name>[^/]+)/tags"
    r"|/v2/(?P<path>.+)/tags/list"
    r"|/v[23]/manage/repos|/v2/_catalog"
)
_FIRST = re.compile(r"(?:^|&)(?:offset=[1-9]|marker=|last=)")


@dataclass(frozen=True)
class Operation:
    """Something that people do upstream; the numbers choose what it is done to."""

    name: str
    repository: int = 0
    tag: int = 0


@dataclass(frozen=True)
class Showing:
    """A moment at which a repository (or, without a path, the registry) was shown as empty.

    ``whole``: from its first row on, and against what a listing's row says of the repository.
    """

    moment: int
    path: str | None
    whole: bool


@dataclass
class Chronicle:
    """A world, its past, and the evidence of absence that it gave."""

    world: World = field(default_factory=World)
    moment: int = 0
    contents: dict[str, Content] = field(default_factory=dict)
    # A change that no row of a listing shows, by repository.
    lies: dict[str, int] = field(default_factory=dict)
    shown: list[Showing] = field(default_factory=list)
    _states: dict[str, list[tuple[int, dict[str, str] | None]]] = field(default_factory=dict)
    _filters: list[tuple[int, tuple[str, ...]]] = field(default_factory=lambda: [(0, ())])
    _graves: dict[str, dict[str, Content]] = field(default_factory=dict)

    # --- what is done -----------------------------------------------------------------------

    def apply(self, operation: Operation) -> None:
        """Carry an operation out; one that finds nothing to do does nothing."""
        getattr(self, f"_{operation.name}")(operation)
        self._note()

    def _push(self, operation: Operation, *, quiet: bool = False) -> None:
        path = PATHS[operation.repository % len(PATHS)]
        if quiet and path not in self.world.repositories:
            return
        self.world.push(path, TAGS[operation.tag % len(TAGS)], size=1000, quiet=quiet)
        if quiet:
            self.lies[path] = self.moment

    def _push_quietly(self, operation: Operation) -> None:
        self._push(operation, quiet=True)

    def _push_the_same(self, operation: Operation) -> None:
        path = self._chosen(operation)
        if path and (tags := self.world.tags(path)):
            content = tags[operation.tag % len(tags)].content
            self.world.push(path, TAGS[(operation.tag + 1) % len(TAGS)], content=content)

    def _add_repository(self, operation: Operation) -> None:
        self.world.create_repository(PATHS[operation.repository % len(PATHS)])

    def _move(self, operation: Operation, *, quiet: bool = False) -> None:
        path = self._chosen(operation)
        if path and (tags := sorted(self.world.repository(path).tags)):
            self.world.move(path, tags[operation.tag % len(tags)], quiet=quiet)
            if quiet:
                self.lies[path] = self.moment

    def _move_quietly(self, operation: Operation) -> None:
        self._move(operation, quiet=True)

    def _move_all(self, operation: Operation) -> None:
        path = self._chosen(operation)
        for tag in sorted(self.world.repository(path).tags) if path else ():
            self.world.move(path, tag)

    def _delete_tag(self, operation: Operation, *, quiet: bool = False) -> None:
        path = self._chosen(operation)
        if path and (tags := sorted(self.world.repository(path).tags)):
            self._bury(path)
            self.world.delete_tag(path, tags[operation.tag % len(tags)], quiet=quiet)
            if quiet:
                self.lies[path] = self.moment

    def _delete_tag_quietly(self, operation: Operation) -> None:
        self._delete_tag(operation, quiet=True)

    def _delete_all_tags(self, operation: Operation) -> None:
        path = self._chosen(operation)
        for tag in sorted(self.world.repository(path).tags) if path else ():
            self._bury(path)
            self.world.delete_tag(path, tag)

    def _delete_repository(self, operation: Operation) -> None:
        path = self._chosen(operation)
        if path:
            self._bury(path)
            self.world.delete_repository(path)

    def _delete_everything(self, operation: Operation) -> None:
        for path in sorted(self.world.repositories):
            self._bury(path)
            self.world.delete_repository(path)

    def _bring_back(self, operation: Operation) -> None:
        graves = sorted(self._graves)
        if graves:
            path = graves[operation.repository % len(graves)]
            for tag, content in self._graves[path].items():
                self.world.push(path, tag, content=content)

    def _chosen(self, operation: Operation) -> str:
        paths = sorted(self.world.repositories)
        return paths[operation.repository % len(paths)] if paths else ""

    def _bury(self, path: str) -> None:
        tags = {tag.name: tag.content for tag in self.world.tags(path)}
        if tags:
            self._graves[path] = tags

    def _note(self) -> None:
        self.moment += 1
        for path in self._states.keys() | self.world.repositories.keys():
            now = self._now(path)
            states = self._states.setdefault(path, [(0, None)])
            if states[-1][1] != now:
                states.append((self.moment, now))

    def _now(self, path: str) -> dict[str, str] | None:
        repository = self.world.repositories.get(path)
        if repository is None:
            return None
        for tag in repository.tags.values():
            self.contents[tag.content.digest] = tag.content
        return {tag.name: tag.content.digest for tag in repository.tags.values()}

    # --- what was shown ---------------------------------------------------------------------

    def witness(self, asked: Asked, answer: Answer) -> None:
        """Note that a list came up empty, whether it was or not."""
        found = _LISTS.fullmatch(unquote(asked.path))
        if found is None or asked.method != "GET":
            return
        path = found["path"] or (
            f"{found['namespace']}/{found['name'].replace('$', '/')}" if found["name"] else None
        )
        if self._came_up_empty(path, asked, answer):
            repository = self.world.repositories.get(path or "")
            agrees = repository is not None and repository.num_images == 0
            whole = not _FIRST.search(asked.query) and not agrees
            self.shown.append(Showing(self.moment, path, whole))

    def _came_up_empty(self, path: str | None, asked: Asked, answer: Answer) -> bool:
        if answer.status == 404 and path in self.world.repositories:
            # What a listing's own row calls empty may be hidden as well.
            return self.world.repository(path).num_images == 0
        was_cut = answer.sent is not None and answer.sent < len(answer.body)
        if answer.status != 200 or was_cut or answer.reset:
            return False
        try:
            body = msgspec.json.decode(answer.body)
        except msgspec.DecodeError:
            return False
        if isinstance(body, dict):
            rows = next((v for v in body.values() if isinstance(v, list)), [])
            return not rows
        # By offset the total tells, so that only a whole list can be empty.
        return not body and not _FIRST.search(asked.query)

    def filter(self, exclude: tuple[str, ...]) -> None:
        """Note that people want to see other repositories from now on."""
        self.moment += 1
        self._filters.append((self.moment, exclude))

    # --- questions --------------------------------------------------------------------------

    def images(self) -> set[tuple[str, str, str]]:
        """(path, tag, digest) of what is there now and of interest."""
        return {image for image in self.world.images() if self.covers(image[0])}

    def names(self) -> set[tuple[str, str]]:
        """(path, tag) of whatever was there at any moment."""
        return {
            (path, tag)
            for path, states in self._states.items()
            for _, state in states
            for tag in state or ()
        }

    def covers(self, path: str) -> bool:
        """Whether people want to see a repository."""
        return not any(fnmatchcase(path, pattern) for pattern in self.excluded)

    @property
    def excluded(self) -> tuple[str, ...]:
        """The patterns of what people do not want to see."""
        return self._filters[-1][1]

    def was_left_out(self, path: str, since: int, until: int) -> bool:
        """Whether a filter left a repository out at some moment."""
        ends = [*(moment for moment, _ in self._filters[1:]), self.moment + 1]
        return any(
            begin <= until and end > since and any(fnmatchcase(path, p) for p in exclude)
            for (begin, exclude), end in zip(self._filters, ends, strict=True)
        )

    def was_there(self, path: str, tag: str, digest: str, since: int, until: int) -> bool:
        """Whether a tag had this digest at some moment."""
        return any(state and state.get(tag) == digest for state in self._during(path, since, until))

    def was_absent(self, path: str, tag: str, since: int, until: int) -> bool:
        """Whether a tag was absent, or shown to be, at some moment."""
        return self.was_gone(path, tag, since, until) or self.was_shown_empty(path, since, until)

    def was_gone(self, path: str, tag: str, since: int, until: int) -> bool:
        """Whether a tag was absent at some moment."""
        return any(state is None or tag not in state for state in self._during(path, since, until))

    def was_shown_empty(self, path: str, since: int, until: int) -> bool:
        """Whether an empty list was shown of a repository, or of the registry."""
        return any(since <= s.moment <= until and s.path in (None, path) for s in self.shown)

    def is_first_sight(self, path: str, before: int, since: int, until: int) -> bool:
        """Whether a list that is empty as a whole had not been shown before.

        Args:
            path: the repository.
            before: so many showings came before the run.
            since: the moment of the run's beginning.
            until: that of its end.
        """
        of_path = [(n, s) for n, s in enumerate(self.shown) if s.path in (None, path)]
        now = [s for n, s in of_path if n >= before and since <= s.moment <= until]
        earlier = [s for n, s in of_path if n < before]
        return bool(now) and all(s.whole for s in now) and not earlier

    def _during(self, path: str, since: int, until: int) -> Iterator[dict[str, str] | None]:
        states = self._states.get(path, [(0, None)])
        ends = [*(moment for moment, _ in states[1:]), self.moment + 1]
        for (begin, state), end in zip(states, ends, strict=True):
            if begin <= until and end > since:
                yield state
