"""Asks which artifacts belong to the images of a unit; a failure hides and retires nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, cast

import structlog

from wharfinger.domain.artifacts import Referrer, Referrers, subject_of_tag
from wharfinger.domain.errors import SourceError, TemporarySourceError
from wharfinger.domain.model import Page, Reason, RepositoryRef, TagRef
from wharfinger.domain.ports import ListsReferrers, Source
from wharfinger.store import attachments
from wharfinger.store.attachments import Question, Told
from wharfinger.store.database import Database
from wharfinger.store.runs import TakenUnit
from wharfinger.store.writing import ReadRepository, WantedRepository
from wharfinger.sync.together import together

log = structlog.get_logger()

# Questions of one repository that wait for their turn at a time.
_AT_ONCE = 32


class Counting(Protocol):
    """Requests sent in one task and in those it started."""

    requests: int


class Asked(Protocol):
    """A source whose requests can be counted."""

    source: Source

    def counting(self) -> AbstractContextManager[Counting]:
        """Count the requests of what is awaited inside."""
        ...


class ToldByListing:
    """Collects what the pages of a listing tell of attachments, where they do."""

    def __init__(self) -> None:
        self._tells = False
        self._found = dict[Referrer, None]()

    def take(self, page: Page[TagRef]) -> None:
        """Take in one page."""
        for tag in page.items:
            if tag.attached is not None:
                self._tells = True
                self._found.update(dict.fromkeys(tag.attached))

    def told(self) -> Told | None:
        """What the whole listing told; ``None`` where it tells nothing of attachments."""
        return Told(answered=None, found=tuple(self._found)) if self._tells else None


@dataclasses.dataclass
class Trouble:
    """What one run has met at its registry that asking others would only meet again.

    Until there is an answer, questions wait for the one before: the first tells for all.
    """

    error: SourceError | None = None
    has_answer: bool = False
    first: asyncio.Lock = dataclasses.field(default_factory=asyncio.Lock)


class Troubles:
    """The trouble of each registry's newest run."""

    def __init__(self) -> None:
        self._of: dict[str, tuple[str, Trouble]] = {}

    def of(self, unit: TakenUnit) -> Trouble:
        """The trouble of a unit's run."""
        run, trouble = self._of.get(unit.registry_id, ("", Trouble()))
        if run != unit.run_id:
            trouble = Trouble()
            self._of[unit.registry_id] = (unit.run_id, trouble)
        return trouble


class Asking:
    """Asks on behalf of one unit.

    A registry that fails although it was asked again and again has enough of it: nothing more is
    asked in that run. What it refuses may be one repository's affair, and ends the questions about
    that one. What is known stays meanwhile.
    """

    def __init__(
        self,
        database: Database,
        project_id: str,
        unit: TakenUnit,
        opened: Asked,
        trouble: Trouble,
    ) -> None:
        self._database = database
        self._project_id = project_id
        self._unit = unit
        self._opened = opened
        self._trouble = trouble

    async def about(self, read: Sequence[ReadRepository]) -> dict[int, ReadRepository]:
        """Return the repositories with what the registry tells of their images' referrers."""
        source = _asker(self._opened.source)
        if source is None or not read:
            return {one.wanted.id: one for one in read}
        questions = await self._questions(read)
        answered = await together(
            [self._ask(source, one, questions.get(one.wanted.id, ())) for one in read]
        )
        return {one.wanted.id: one for one in answered}

    async def _questions(self, read: Sequence[ReadRepository]) -> Mapping[int, list[Question]]:
        listed = [
            (one.wanted.id, tag.tag, tag.digest)
            for one in read
            for tag in one.tags
            if not _is_no_image(tag)
        ]
        scope = {"project": self._project_id, "registry": self._unit.registry_id}
        async with self._database.tenant(self._project_id) as tx:
            found = await attachments.unasked(
                tx,
                scope,
                listed,
                listings=[one.listing for one in read if one.listing is not None],
                again=[one.wanted.id for one in read if self._again(one.wanted)],
            )
        questions: dict[int, list[Question]] = defaultdict(list)
        for question in found:
            questions[question.repository].append(question)
        return questions

    def _again(self, wanted: WantedRepository) -> bool:
        """Whether what was told once may be told otherwise by now."""
        moved = wanted.fingerprint is not None and not wanted.stood
        return self._unit.is_full or self._unit.hinted or moved

    async def _ask(
        self, source: ListsReferrers, read: ReadRepository, questions: Sequence[Question]
    ) -> ReadRepository:
        answers: list[tuple[Question, Referrers]] = []
        failure: SourceError | None = None
        with self._opened.counting() as count:
            for batch in _batches(questions):
                found = await together([self._answer(source, read.wanted, one) for one in batch])
                answers += [pair for pair in found if not isinstance(pair, SourceError)]
                failure = next((one for one in found if isinstance(one, SourceError)), None)
                if failure is not None:
                    break
        return dataclasses.replace(
            read,
            attached=_told(read.wanted, answers, failure),
            cost=dataclasses.replace(read.cost, requests=read.cost.requests + count.requests),
        )

    async def _answer(
        self, source: ListsReferrers, wanted: WantedRepository, question: Question
    ) -> tuple[Question, Referrers] | SourceError:
        trouble = self._trouble
        if not trouble.has_answer:
            async with trouble.first:
                if not trouble.has_answer:
                    return await self._try(source, wanted, question)
        return await self._try(source, wanted, question)

    async def _try(
        self, source: ListsReferrers, wanted: WantedRepository, question: Question
    ) -> tuple[Question, Referrers] | SourceError:
        trouble = self._trouble
        if trouble.error is not None:
            return trouble.error
        repository = RepositoryRef(namespace=wanted.namespace, name=wanted.name)
        try:
            answer = await source.referrers(repository, question.subject, question.tags)
        except SourceError as error:
            log.warning("sync.referrers_unread", repository=wanted.id, error=error.code)
            if isinstance(error, TemporarySourceError):
                trouble.error = error
            else:
                trouble.has_answer = True
            return error
        trouble.has_answer = True
        return question, answer


def _batches(questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    """Split questions; the first one goes alone, for if it fails the others are not asked."""
    if questions:
        yield questions[:1]
    for start in range(1, len(questions), _AT_ONCE):
        yield questions[start : start + _AT_ONCE]


def _told(
    wanted: WantedRepository,
    answers: Sequence[tuple[Question, Referrers]],
    failure: SourceError | None,
) -> Told:
    return Told(
        found=tuple(one for _, answer in answers for one in answer.found),
        answered=frozenset(question.subject for question, answer in answers if answer.listed),
        lists=frozenset(tag for question, _ in answers for tag in question.tags),
        unread=None if failure is None else _unread(wanted, failure),
    )


def _unread(wanted: WantedRepository, failure: SourceError) -> Reason:
    path = f"{wanted.namespace}/{wanted.name}" if wanted.namespace else wanted.name
    return Reason(
        code="referrers_unread",
        message=f"what belongs to its images could not be read: {failure}"[:400],
        repository=path,
    )


def _asker(source: Source) -> ListsReferrers | None:
    if not getattr(source, "asks_for_referrers", False):
        return None
    return cast("ListsReferrers", source)


def _is_no_image(tag: TagRef) -> bool:
    """Whether nobody need ask what belongs to it. A tag that lists referrers is asked about."""
    if tag.image is None or not tag.image.artifact_type:
        return False
    return tag.tag is None or subject_of_tag(tag.tag) is None
