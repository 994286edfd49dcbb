"""What every kind of source must keep: subclass ``SourceSuite`` in a test and give it a stage."""

# ruff: noqa: S101 - assertions are what a suite of tests is made of.

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import AsyncIterator, Mapping
from typing import Any, ClassVar

import pytest

from wharfinger.domain.errors import (
    CursorRefusedError,
    ForbiddenError,
    MalformedAnswerError,
    MissingError,
    SourceError,
    ThrottledError,
    UnauthorisedError,
    UnreachableError,
    UnsupportedError,
    UpstreamFailureError,
)
from wharfinger.domain.model import (
    Cursor,
    Page,
    RegistryCredential,
    RegistryRef,
    RepositoryRef,
    TagRef,
)
from wharfinger.domain.ports import Source
from wharfinger.sources import open_source
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._http import AioTransport
from wharfinger.sync.pacing import HostBudget, PacedHttp
from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.server import LoopbackServer

Inventory = set[tuple[str, str, str]]  # (repository path, tag, digest)


@dataclasses.dataclass(kw_only=True)
class Stage:
    """A server that a kind is tried against, and how to reach and to change it.

    ``push`` stores something new under a tag; ``expected`` is what a complete listing holds;
    ``repositories`` and ``tags`` are regular expressions that find the requests for the two
    listings in the server's log and faults. ``challenged`` is the number of requests
    before the one that brings the first page: those that the server refuses before it has told how
    it wants to be asked, and those that only find out where the pages are.
    """

    server: LoopbackServer
    credential: RegistryCredential
    push: Any
    expected: Any
    repositories: str
    tags: str
    options: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    secrets: tuple[str, ...] = ()
    challenged: int = 0

    def registry(self, kind: str, *, generation: int = 1, **options: Any) -> RegistryRef:
        """Return the registry at this stage's address."""
        return RegistryRef(
            id="r1",
            project_id="p1",
            name="suite",
            kind=kind,
            address=self.server.url,
            options={**self.options, **options},
            generation=generation,
            allow_private_networks=True,
        )

    @contextlib.asynccontextmanager
    async def opened(
        self, kind: str, *, attempts: int = 1, generation: int = 1, **options: Any
    ) -> AsyncIterator[Source]:
        """Open a source that tries so often and never waits."""
        registry = self.registry(kind, generation=generation, **options)
        async with opened(registry, self.credential, attempts=attempts) as source:
            yield source


@contextlib.asynccontextmanager
async def opened(
    registry: RegistryRef, credential: RegistryCredential, *, attempts: int = 1
) -> AsyncIterator[Source]:
    """Open a source over a real transport, with retries that do not wait."""
    transport = AioTransport(
        AddressPolicy(allow_private=registry.allow_private_networks), ca_pem=registry.ca_pem
    )
    budget = HostBudget(sleep=_no_wait)
    http = PacedHttp(transport, budget, attempts=attempts, sleep=_no_wait)
    source = open_source(registry, credential, http)
    try:
        yield source
    finally:
        await source.aclose()
        await transport.aclose()


async def _no_wait(_seconds: float) -> None:
    """Let time stand still."""


async def repositories_of(source: Source) -> list[RepositoryRef]:
    """Read the list of repositories to its end."""
    return [row async for page in source.repositories(None) for row in page.items]


async def tags_of(source: Source, repository: RepositoryRef) -> list[TagRef]:
    """Read a repository's list of tags to its end."""
    return [row async for page in source.tags(repository, None) for row in page.items]


async def inventory_of(source: Source) -> Inventory:
    """Read everything."""
    return {
        (path_of(repository), tag.tag or "", tag.digest)
        for repository in await repositories_of(source)
        for tag in await tags_of(source, repository)
    }


def path_of(repository: RepositoryRef) -> str:
    """Return namespace and name as one path."""
    return "/".join(filter(None, (repository.namespace, repository.name)))


ERRORS: list[tuple[int, tuple[type[SourceError], ...]]] = [
    (401, (UnauthorisedError,)),
    (403, (ForbiddenError,)),
    # Without a list of repositories there is nothing to be missing: both words are right there.
    (404, (MissingError, UnsupportedError)),
    (405, (UnsupportedError,)),
    (408, (UpstreamFailureError,)),
    (429, (ThrottledError,)),
    (500, (UpstreamFailureError,)),
    (501, (UnsupportedError,)),
    (502, (UpstreamFailureError,)),
    (503, (UpstreamFailureError,)),
    (504, (UpstreamFailureError,)),
    (418, (SourceError,)),
]

WORTHLESS = [b"", b"{}", b"null", b'"text"', b"[[[", b"<html>", b"[1]", b'{"repositories": {}}']


class SourceSuite:
    """Behaviour that holds for every kind; a subclass names its kind and provides ``stage``."""

    kind: ClassVar[str]

    @pytest.fixture
    def stage(self) -> Any:
        """Return a running ``Stage``; every subclass has its own."""
        raise NotImplementedError

    async def test_lists_every_tag_of_every_repository(self, stage: Stage) -> None:
        """Names with slashes included."""
        for path in ("team/app", "team/deep/er/app", "other/x"):
            stage.push(path, "v1")
            stage.push(path, "v2")

        async with stage.opened(self.kind) as source:
            found = await inventory_of(source)

        assert found == stage.expected()
        assert len(found) == 6

    async def test_an_empty_registry_is_a_complete_empty_list(self, stage: Stage) -> None:
        """One last page without items."""
        async with stage.opened(self.kind) as source:
            assert await repositories_of(source) == []

    @pytest.mark.parametrize("repositories", [1, 2, 3, 4, 6, 7, 9])
    async def test_pages_of_repositories_join_wherever_they_end(
        self, stage: Stage, repositories: int
    ) -> None:
        """The last page may be full, short or empty."""
        for number in range(repositories):
            stage.push(f"team/app-{number}", "v1")

        async with stage.opened(self.kind, page_size=3) as source:
            pages = [page async for page in source.repositories(None)]

        found = [path_of(row) for page in pages for row in page.items]
        assert sorted(found) == sorted({path for path, _, _ in stage.expected()})
        assert _only_the_last_is_last(pages)

    @pytest.mark.parametrize("tags", [1, 2, 3, 4, 6, 7, 9])
    async def test_pages_of_tags_join_wherever_they_end(self, stage: Stage, tags: int) -> None:
        """The last page may be full, short or empty."""
        for number in range(tags):
            stage.push("team/app", f"v{number}")

        async with stage.opened(self.kind, page_size=3) as source:
            (repository,) = await repositories_of(source)
            pages = [page async for page in source.tags(repository, None)]

        found = [("team/app", row.tag, row.digest) for page in pages for row in page.items]
        assert len(found) == tags
        assert set(found) == stage.expected()
        assert _only_the_last_is_last(pages)

    @pytest.mark.parametrize(("status", "errors"), ERRORS)
    @pytest.mark.parametrize("listing", ["repositories", "tags"])
    async def test_every_status_has_its_error(
        self, stage: Stage, listing: str, status: int, errors: tuple[type[SourceError], ...]
    ) -> None:
        """A failure is never an empty list."""
        stage.push("team/app", "v1")
        stage.server.faults.answer(getattr(stage, listing), status, body={"code": 1})

        async with stage.opened(self.kind) as source:
            with pytest.raises(errors):
                await inventory_of(source)

    @pytest.mark.parametrize("body", WORTHLESS)
    @pytest.mark.parametrize("listing", ["repositories", "tags"])
    async def test_what_is_no_list_is_an_error(
        self, stage: Stage, listing: str, body: bytes
    ) -> None:
        """An answer of 200 proves nothing by itself."""
        stage.push("team/app", "v1")
        stage.server.faults.answer(getattr(stage, listing), 200, body=body)

        async with stage.opened(self.kind) as source:
            with pytest.raises(MalformedAnswerError):
                await inventory_of(source)

    @pytest.mark.parametrize("listing", ["repositories", "tags"])
    async def test_a_page_of_html_is_named_as_such(self, stage: Stage, listing: str) -> None:
        """The operator must know that it was a proxy."""
        stage.push("team/app", "v1")
        stage.server.faults.html(getattr(stage, listing))

        async with stage.opened(self.kind) as source:
            with pytest.raises(MalformedAnswerError, match="HTML"):
                await inventory_of(source)

    @pytest.mark.parametrize("chunked", [False, True])
    @pytest.mark.parametrize("listing", ["repositories", "tags"])
    async def test_an_answer_cut_short_is_an_error(
        self, stage: Stage, listing: str, *, chunked: bool
    ) -> None:
        """With a length announced, and in chunks."""
        stage.push("team/app", "v1")
        stage.server.faults.truncate(getattr(stage, listing), chunked=chunked)

        async with stage.opened(self.kind) as source:
            with pytest.raises(UnreachableError, match="cut short"):
                await inventory_of(source)

    @pytest.mark.parametrize("listing", ["repositories", "tags"])
    async def test_half_a_body_with_a_fitting_length_is_an_error(
        self, stage: Stage, listing: str
    ) -> None:
        """Only the JSON can tell."""
        stage.push("team/app", "v1")
        stage.server.faults.cut_body(getattr(stage, listing))

        async with stage.opened(self.kind) as source:
            with pytest.raises(MalformedAnswerError, match="cut short"):
                await inventory_of(source)

    async def test_a_second_page_that_fails_ends_the_listing_with_an_error(
        self, stage: Stage
    ) -> None:
        """What came before it is no complete list."""
        for number in range(7):
            stage.push(f"team/app-{number}", "v1")
        stage.server.faults.answer(stage.repositories, 500, skip=1 + stage.challenged)

        async with stage.opened(self.kind, page_size=3) as source:
            pages: list[Page[RepositoryRef]] = []
            with pytest.raises(UpstreamFailureError):
                await _collect(source, pages)

        assert pages
        assert all(page.next is not None for page in pages)

    async def test_the_wish_to_wait_is_passed_on(self, stage: Stage) -> None:
        """In seconds."""
        stage.server.faults.throttle(stage.repositories, retry_after=7)

        async with stage.opened(self.kind) as source:
            with pytest.raises(ThrottledError) as caught:
                await repositories_of(source)

        assert caught.value.retry_after_s == 7

    @pytest.mark.parametrize("status", [429, 500, 503])
    async def test_what_is_temporary_is_tried_again(self, stage: Stage, status: int) -> None:
        """Twice is no reason to give up."""
        stage.push("team/app", "v1")
        stage.server.faults.answer(".", status, times=2)

        async with stage.opened(self.kind, attempts=5) as source:
            assert await inventory_of(source) == stage.expected()

    async def test_a_reset_connection_is_unreachable(self, stage: Stage) -> None:
        """Whatever the library calls it."""
        stage.server.faults.reset(stage.repositories)

        async with stage.opened(self.kind) as source:
            with pytest.raises(UnreachableError):
                await repositories_of(source)

    async def test_a_stopped_server_is_unreachable(self, stage: Stage) -> None:
        """And the message says how."""
        async with stage.opened(self.kind) as source:
            await stage.server.stop()
            with pytest.raises(UnreachableError, match="connection refused"):
                await repositories_of(source)

    async def test_a_cursor_of_another_configuration_is_refused(self, stage: Stage) -> None:
        """After a change of address, credential or filter nothing old is believed."""
        for number in range(7):
            stage.push(f"team/app-{number}", "v1")
        async with stage.opened(self.kind, page_size=3) as source:
            cursor = (await anext(aiter(source.repositories(None)))).next
        assert cursor is not None

        for change in ({"generation": 2}, {"page_size": 4}):
            async with stage.opened(self.kind, **{"page_size": 3, **change}) as source:
                with pytest.raises(CursorRefusedError):
                    await anext(aiter(source.repositories(cursor)))

    async def test_a_listing_resumes_where_it_stood_or_says_that_it_cannot(
        self, stage: Stage
    ) -> None:
        """An offset is not resumed, a marker is."""
        for number in range(7):
            stage.push(f"team/app-{number}", "v1")
        async with stage.opened(self.kind, page_size=3) as source:
            first = await anext(aiter(source.repositories(None)))
            rest = await _rest_after(source, first.next)

        if rest is not None:
            found = {path_of(row) for row in (*first.items, *rest)}
            assert found == {path for path, _, _ in stage.expected()}

    async def test_no_secret_is_in_an_error_even_if_the_server_repeats_it(
        self, stage: Stage
    ) -> None:
        """Errors end in logs and in other people's browsers."""

        def parrot(asked: Asked) -> Answer:
            said = " ".join(f"{name}={value}" for name, value in asked.header_pairs)
            return json_answer({"error_code": "X.1", "error_msg": said}, status=403)

        stage.server.faults.instead(stage.repositories, parrot, skip=stage.challenged)

        async with stage.opened(self.kind) as source:
            with pytest.raises(SourceError) as caught:
                await repositories_of(source)

        told = repr(caught.value) + str(caught.value)
        assert not [secret for secret in stage.secrets if secret in told]
        assert "secret=***" in repr(stage.credential)

    async def test_describes_every_digest_that_is_asked_for(self, stage: Stage) -> None:
        """Size and identity of what the tags name."""
        stage.push("team/app", "v1")
        stage.push("team/app", "v2")

        async with stage.opened(self.kind) as source:
            (repository,) = await repositories_of(source)
            tags = await tags_of(source, repository)
            images = [image async for image in source.describe(repository, tags)]

        assert {image.digest for image in images} == {tag.digest for tag in tags}
        assert all(image.size > 0 and image.image_id for image in images)


def _only_the_last_is_last(pages: list[Page[Any]]) -> bool:
    return [page.next is None for page in pages] == [False] * (len(pages) - 1) + [True]


async def _collect(source: Source, pages: list[Page[RepositoryRef]]) -> None:
    async for page in source.repositories(None):
        pages.append(page)  # noqa: PERF401 - what came before an error must be seen


async def _rest_after(source: Source, cursor: Cursor | None) -> list[RepositoryRef] | None:
    try:
        return [row async for page in source.repositories(cursor) for row in page.items]
    except CursorRefusedError:
        assert cursor is not None
        assert not cursor.resumable
        return None


__all__ = [
    "Inventory",
    "SourceSuite",
    "Stage",
    "inventory_of",
    "opened",
    "path_of",
    "repositories_of",
    "tags_of",
]
