"""What belongs to images, as rows: whom to ask about, what was told, and what a page shows."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from wharfinger.domain.artifacts import ArtifactKind, Referrer, subject_of_tag
from wharfinger.domain.inventory import ListedAttachment
from wharfinger.domain.model import Reason
from wharfinger.store.database import Ask, Connection, rows_of
from wharfinger.store.named_sql import queries

# Most are not prepared: a connection would keep the plan of a table that was all but empty.
_SQL = queries("attachments")


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """An image whose referrers are to be asked for; ``tags`` hold lists of them."""

    repository: int
    subject: str
    tags: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class Told:
    """What a reading of a repository told of its images' referrers.

    ``answered`` are the images of which the registry's own list told, ``None`` for all of them;
    ``lists`` are the tags that hold lists and were read. What is known of anything else stays.
    ``unread`` says why not every question has an answer.
    """

    found: Sequence[Referrer] = ()
    answered: frozenset[str] | None = frozenset()
    lists: frozenset[str] = frozenset()
    unread: Reason | None = None

    @property
    def says_something(self) -> bool:
        """Whether anything known may be known no longer, or something is new."""
        return self.answered is None or bool(self.found or self.answered or self.lists)


# Nobody asks any more, so that nobody would notice what goes.
NOTHING = Told(answered=None)

# Subject, digest, kind, and the tag that tells.
_Row = tuple[str, str, str, str | None]


async def unasked(
    tx: Connection,
    scope: Mapping[str, Any],
    listed: Sequence[tuple[int, str | None, str]],
    *,
    listings: Sequence[int],
    again: Sequence[int],
) -> list[Question]:
    """Return what to ask of the repositories whose tags were listed.

    Args:
        tx: a transaction of the tenant.
        scope: the project and the registry.
        listed: repository, tag and digest of what was listed.
        listings: staged listings that hold more of it.
        again: repositories of which everything is asked again.
    """
    columns: list[Sequence[Any]] = list(zip(*listed, strict=True)) if listed else [(), (), ()]
    cursor = await tx.execute(
        _SQL["unasked"],
        {
            **scope,
            "repositories": list(columns[0]),
            "tags": list(columns[1]),
            "digests": list(columns[2]),
            "listings": list(listings),
            "again": list(again),
        },
        prepare=False,
    )
    found = [
        Question(repository=row[0], subject=row[1], tags=tuple(row[2]))
        for row in await cursor.fetchall()
    ]
    if not found:
        return found
    digests = list({question.subject for question in found})
    cursor = await tx.execute(_SQL["artifacts"], {**scope, "digests": digests}, prepare=False)
    artifacts = {row[0] for row in await cursor.fetchall()}
    return [question for question in found if question.subject not in artifacts]


async def publish(tx: Connection, scope: Mapping[str, Any], told: Mapping[int, Told]) -> int:
    """Bring what is known of these repositories' images level; returns how many rows changed."""
    saying = {repository: one for repository, one in told.items() if one.says_something}
    if not saying:
        return 0
    known = await _known(tx, scope, list(saying))
    gone, new = [], []
    for repository, one in saying.items():
        wanted = {_row(referrer): referrer for referrer in _kept(one)}
        had = known[repository]
        gone += [(repository, *row) for row in had if _superseded(one, row) and row not in wanted]
        new += [
            (repository, *row, referrer.artifact_type)
            for row, referrer in wanted.items()
            if row not in had
        ]
    names = ("repositories", "subjects", "digests", "kinds", "tags")
    changed = 0
    if gone:
        values = {**scope, **_columns(names, gone)}
        changed += (await tx.execute(_SQL["remove"], values, prepare=False)).rowcount
    if new:
        values = {**scope, **_columns((*names, "types"), new)}
        changed += (await tx.execute(_SQL["add"], values)).rowcount
    return changed


async def forget_gone(tx: Connection, scope: Mapping[str, Any]) -> None:
    """Forget what belonged to images that this transaction has taken off the list."""
    await tx.execute(_SQL["forget_gone"], scope, prepare=False)


async def of_images(
    ask: Ask, project_id: str, images: Sequence[tuple[int, str]]
) -> Mapping[tuple[int, str], tuple[ListedAttachment, ...]]:
    """What belongs to images, each named by its repository and its digest."""
    wanted = list(dict.fromkeys(images))
    if not wanted:
        return {}
    values = {"project": project_id, **_columns(("repositories", "digests"), wanted)}
    found: dict[tuple[int, str], list[ListedAttachment]] = defaultdict(list)
    for repository, subject, kind, digest, artifact_type in await rows_of(
        ask, _SQL["of_images"], values
    ):
        found[repository, subject].append(
            ListedAttachment(kind=ArtifactKind(kind), digest=digest, artifact_type=artifact_type)
        )
    return {image: tuple(attached) for image, attached in found.items()}


async def _known(
    tx: Connection, scope: Mapping[str, Any], repositories: Sequence[int]
) -> Mapping[int, set[_Row]]:
    cursor = await tx.execute(_SQL["known"], {**scope, "repositories": repositories}, prepare=False)
    known: dict[int, set[_Row]] = defaultdict(set)
    for repository, subject, digest, kind, tag in await cursor.fetchall():
        known[repository].add((subject, digest, kind, tag))
    return known


def _kept(told: Told) -> Iterable[Referrer]:
    """Leave out what a tag's own name tells: the tag's row brings and takes that."""
    for referrer in told.found:
        named = None if referrer.tag is None else subject_of_tag(referrer.tag)
        if named is None or named.kind is None:
            yield referrer


def _superseded(told: Told, row: _Row) -> bool:
    subject, _, _, tag = row
    if told.answered is None:
        return True
    return subject in told.answered if tag is None else tag in told.lists


def _row(referrer: Referrer) -> _Row:
    return referrer.subject, referrer.digest, referrer.kind.value, referrer.tag


def _columns(names: Sequence[str], rows: Sequence[Sequence[Any]]) -> dict[str, list[Any]]:
    return {name: [row[n] for row in rows] for n, name in enumerate(names)}
