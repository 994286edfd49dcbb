"""The list over our own API: whole, filtered, counted, streamed, and as it was."""

from __future__ import annotations

import contextlib
import datetime as dt
import hashlib
from collections.abc import AsyncGenerator
from contextlib import AbstractAsyncContextManager
from typing import Any

import msgspec
from litestar import Response, get
from litestar.response import Stream

from wharfinger import __version__
from wharfinger.domain.artifacts import ArtifactKind
from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.history import Moment, PastFilter
from wharfinger.domain.inventory import Facets, ImageFilter, RegistryScope, Span, Worth
from wharfinger.domain.labels import read_filter
from wharfinger.domain.model import Caller
from wharfinger.http.api.call import ApiCall, TheApiCall, cursor, read_time
from wharfinger.http.api.wire import (
    FacetsAnswer,
    ImageItem,
    ListAnswer,
    PastAnswer,
    listed_item,
    past_item,
    registry_item,
)
from wharfinger.http.exports import FORMATS, Encoder, Format, encoded
from wharfinger.http.parameters import MAX_INT64, Parameters
from wharfinger.http.services import Services, TheServices
from wharfinger.service.exports import Export

MOST_IMAGES = 10_000
# What only the current list can be asked.
_OF_THE_CURRENT_LIST = (
    "latest",
    "tag_contains",
    "text",
    "digest",
    "image_id",
    "size",
    "multi_arch",
    "updated_from",
    "updated_to",
    "label",
    "signed",
    "has_sbom",
    "has_attestation",
    "confirmed_from",
    "confirmed_to",
)


class _At(msgspec.Struct, frozen=True):
    """Where a list of the past goes on. The number is the first page's, whatever happens since."""

    seq: int
    at: dt.datetime
    id: int


@get("/images", action="hss:images:list")
async def list_images(
    call: TheApiCall, services: TheServices
) -> PastAnswer | Response[ListAnswer[ImageItem]] | Stream | Response[None]:
    """The list as it is, or as it was known at a time or at a number; a page, or all of it."""
    at, as_of = call.moment("at"), call.number("as_of")
    is_current = at is None and as_of is None
    if at is not None and as_of is not None:
        raise InvalidParameterError("at", "must not stand beside as_of")
    if not is_current:
        check_past(call.query)
    if wanted := _format(call):
        return await _export(call, services, wanted, at=at, as_of=as_of)
    if is_current:
        return await _current(call, services)
    return await _past(call, services, at=at, as_of=as_of)


async def _past(
    call: ApiCall, services: Services, *, at: dt.datetime | None, as_of: int | None
) -> PastAnswer:
    position = call.after(_At)
    if position is None:
        moment = await services.history.moment(call.caller, at=at, seq=as_of)
    else:
        moment = Moment(seq=position.seq, at=position.at)
    page = await services.history.images(
        call.caller,
        moment,
        past_filter(call.query),
        after=0 if position is None else position.id,
        limit=call.limit(),
    )
    return PastAnswer(
        items=[past_item(image) for image in page.items],
        next=page.next and cursor(_At(moment.seq, moment.at, int(page.next))),
        as_of=page.as_of,
        verdict=page.verdict,
        at=page.at,
        registries=[registry_item(registry) for registry in page.registries],
    )


@get("/images/facets", action="hss:images:list")
async def list_facets(call: TheApiCall, services: TheServices) -> FacetsAnswer:
    """How many images match, by registry, kind, enterprise project and namespace."""
    wanted = image_filter(call.caller, call.query)
    worth = await services.inventory.worth(call.caller, wanted.scope)
    facets: Facets = await services.inventory.facets(call.caller, wanted)
    return FacetsAnswer(facets=facets, as_of=worth.as_of, verdict=worth.verdict)


async def _current(call: ApiCall, services: Services) -> Response[Any]:
    """Answer a ``ListAnswer[ImageItem]``, in bytes."""
    wanted = image_filter(call.caller, call.query)
    limit = call.limit(most=MOST_IMAGES)
    after = call.after(int) or 0
    # The number first: what happens while the pages are read comes after it in the feed.
    worth = await services.inventory.worth(call.caller, wanted.scope)
    etag = _etag(call, worth)
    if _has(call.if_none_match, etag):
        return Response(None, status_code=304, headers={"ETag": etag})
    # What would let a caller say "not modified" lets us say the same again.
    key = (call.caller.project_id, call.caller.enterprise_projects, etag)
    body = services.remembered.get(key)
    if body is None:
        found = await services.inventory.images_after(
            call.caller, wanted, after_id=after, limit=limit, worth=worth
        )
        answer = ListAnswer(
            items=[listed_item(image) for image in found],
            next=cursor(found[-1].id) if len(found) == limit else None,
            as_of=worth.as_of,
            verdict=worth.verdict,
        )
        body = msgspec.json.encode(answer)
        services.remembered.keep(key, body)
    # Whoever shares this cache must not share it with other callers.
    headers = {"ETag": etag, "Cache-Control": "private, no-cache"}
    return Response(body, media_type="application/json", headers=headers)


def _format(call: ApiCall) -> Format | None:
    """In which format the whole list is asked for; ``None`` for a page of it."""
    name = call.query.choice("format", ["json", *FORMATS])
    if name is not None:
        return FORMATS.get(name)
    accepted = call.accept.lower()
    return next((one for one in FORMATS.values() if one.media_type in accepted), None)


async def _export(
    call: ApiCall,
    services: Services,
    wanted: Format,
    *,
    at: dt.datetime | None,
    as_of: int | None,
) -> Stream:
    if call.query.raw("limit") is not None:
        raise InvalidParameterError("limit", "is for pages; a stream has no end but the last")
    if at is None and as_of is None:
        after_id = call.after(int) or 0
        asked = image_filter(call.caller, call.query)
        opening = services.exports.current(call.caller, asked, after_id=after_id)
    elif call.query.raw("after") is not None:
        raise InvalidParameterError("after", "is for pages where the list is of the past")
    else:
        opening = services.exports.past(call.caller, past_filter(call.query), at=at, seq=as_of)
    return await streamed(opening, wanted)


async def streamed(opening: AbstractAsyncContextManager[Export], wanted: Format) -> Stream:
    """Answer a whole list in a format."""
    encoder = wanted.encoder()
    pieces = _pieces(opening, encoder)
    # What is wrong with the question is told before the answer begins.
    export: Export = await anext(pieces)
    headers = {
        # A header, because a stream prefers the route's media type to its own.
        "Content-Type": wanted.media_type + wanted.parameters,
        "Content-Disposition": f'attachment; filename="images-{export.as_of}.{wanted.suffix}"',
        "X-Wharfinger-As-Of": str(export.as_of),
        "X-Wharfinger-Verdict": export.verdict.value,
        "Cache-Control": "private, no-store",
    }
    return Stream(pieces, headers=headers)


async def _pieces(
    opening: AbstractAsyncContextManager[Export], encoder: Encoder
) -> AsyncGenerator[Any, None]:
    """Yield the state of the list, and then its bytes.

    A failure cuts the answer off before the last of them, and closes the connection.
    """
    async with opening as export:
        yield export
        async with contextlib.aclosing(encoded(export, encoder)) as pieces:
            async for piece in pieces:
                yield piece


def _etag(call: ApiCall, worth: Worth) -> str:
    # Another version of ours may word the same list in another way.
    word = f"{__version__}/{worth.state}?{call.query.text_of_all()}"
    return f'"{hashlib.sha256(word.encode()).hexdigest()[:32]}"'


def _has(if_none_match: str, etag: str) -> bool:
    """Whether a list of tags names one (RFC 9110, section 13.1.2: weak and strong are alike)."""
    given = [one.strip().removeprefix("W/") for one in if_none_match.split(",")]
    return "*" in given or etag in given


def check_past(query: Parameters) -> None:
    """See that nothing is asked of a past list that is known of the current one only.

    Raises:
        InvalidParameterError: something is.
    """
    for name in _OF_THE_CURRENT_LIST:
        if query.raw(name) is not None:
            raise InvalidParameterError(name, "is known of the current list only")


def past_filter(query: Parameters) -> PastFilter:
    """Read which images of a past moment are asked for."""
    return PastFilter(
        registry=query.text("registry", longest=128),
        kind=query.text("kind", longest=64),
        namespace=query.text("namespace", longest=255),
        name_contains=query.text("name", longest=255),
        tag=query.text("tag", longest=255),
    )


def image_filter(caller: Caller, query: Parameters) -> ImageFilter:
    """Read which images of the current list are asked for, among those the caller sees."""
    wanted = past_filter(query)
    return ImageFilter(
        scope=RegistryScope(
            enterprise_projects=caller.enterprise_projects,
            registry_name=wanted.registry,
            kinds=None if wanted.kind is None else (wanted.kind,),
        ),
        namespace=wanted.namespace,
        name_contains=wanted.name_contains,
        tag=wanted.tag,
        tag_contains=query.text("tag_contains", longest=255),
        text=query.text("text", longest=255),
        digest=query.text("digest", longest=255),
        image_id=query.text("image_id", longest=255),
        size=query.integer("size", smallest=0, largest=MAX_INT64),
        is_index=query.flag("multi_arch"),
        latest_only=query.flag("latest") or False,
        labels=tuple(read_filter(t) for t in query.all("label", longest=320, most=8)),
        attached=_attached(query),
        updated=_span(query, "updated"),
        synced=_span(query, "confirmed"),
    )


# What the filters are called, and the kind of artifact that each asks for.
ATTACHED = {
    "signed": ArtifactKind.SIGNATURE,
    "has_sbom": ArtifactKind.SBOM,
    "has_attestation": ArtifactKind.ATTESTATION,
}


def _attached(query: Parameters) -> dict[ArtifactKind, bool]:
    asked = {kind: query.flag(name) for name, kind in ATTACHED.items()}
    return {kind: wanted for kind, wanted in asked.items() if wanted is not None}


def _span(query: Parameters, what: str) -> Span:
    start, end = _moment(query, f"{what}_from"), _moment(query, f"{what}_to")
    if start is not None and end is not None and start > end:
        raise InvalidParameterError(f"{what}_from", f"must not be later than {what}_to")
    return Span.between(start, end)


def _moment(query: Parameters, name: str) -> dt.datetime | None:
    value = query.raw(name)
    return None if value is None else read_time(name, value)
