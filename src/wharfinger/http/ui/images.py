"""Pages about images: searched, filtered, as they were, exported; and the life of each."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlencode

import msgspec
from litestar import Response, get
from litestar.params import FromPath
from litestar.response import Stream

from wharfinger.domain.errors import (
    CallerError,
    HistoryForgottenError,
    InvalidParameterError,
    NotFoundError,
)
from wharfinger.domain.history import Moment
from wharfinger.domain.inventory import Facets, ImageFilter, ListedImage, RegistryScope
from wharfinger.domain.labels import FACET_LABELS
from wharfinger.http.api.images import check_past, image_filter, past_filter, streamed
from wharfinger.http.api.wire import ImageItem, listed_item, past_item
from wharfinger.http.exports import FORMATS
from wharfinger.http.parameters import MAX_INT64, Parameters
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.choices import registry_names
from wharfinger.http.ui.pages import page
from wharfinger.http.ui.visit import TheVisit, Visit
from wharfinger.sources import KINDS

LIST = "hss:images:list"
SHOW = "wharfinger:images:get"
HERE = "/console/images"
# What stands in the address of a page, and goes on to the next page and into exports.
FILTERS = (
    "text",
    "registry",
    "kind",
    "namespace",
    "name",
    "tag",
    "digest",
    "label",
    "latest",
    "multi_arch",
    "signed",
    "has_sbom",
    "at",
)
# What a value of a facet is asked for by.
_FACETS = {"registries": "registry", "kinds": "kind", "namespaces": "namespace"}
_IMAGES = 50
_VERSIONS = 500
_DIGITS = len(str(MAX_INT64))


class _Found(msgspec.Struct, frozen=True, kw_only=True):
    """A page of images: the items as our API words them, and what only the console shows."""

    items: list[ImageItem]
    next: str  # the query of the next page, "" on the last one
    as_of: int
    verdict: str
    platforms: Mapping[int, tuple[Any, ...]] = {}
    facets: Facets | None = None


@get("/images", action=LIST)
async def list_images(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show a page of the list as it is, or as it was known at a time."""
    query = visit.query.without_blanks()
    found: _Found | None = None
    problem: CallerError | None = None
    try:
        found = await _found(visit, services, query)
    except (InvalidParameterError, HistoryForgottenError) as error:
        problem = error
    return page(
        visit,
        "images.html",
        found=found,
        problem=problem,
        given=dict.fromkeys(FILTERS, "") | dict(query.pairs()) | {"at": _picked(visit, query)},
        labels=[value for name, value in query.pairs() if name == "label"],
        registries=list((await registry_names(visit, services)).values()),
        kinds=list(KINDS),
        formats=list(FORMATS),
        asked=asked(query),
        narrowed=lambda facet, value: _narrowed(query, facet, value),
        is_first=query.raw("after") is None,
    )


async def _found(visit: Visit, services: Services, query: Parameters) -> _Found:
    after = query.integer("after", smallest=0, largest=MAX_INT64) or 0
    at = moment_asked(visit, query)
    if at is not None:
        return await _past(visit, services, query, at, after)
    wanted = image_filter(visit.caller, query)
    # The number first: what happens while the page is read comes after it in the feed.
    worth = await services.inventory.worth(visit.caller, wanted.scope)
    found = await services.inventory.images_after(
        visit.caller, wanted, after_id=after, limit=_IMAGES
    )
    # Counting goes over all that match: only for those who ask.
    counts = query.flag("facets") or False
    return _Found(
        items=[listed_item(image) for image in found],
        next=asked(query, after=str(found[-1].id)) if len(found) == _IMAGES else "",
        as_of=worth.as_of,
        verdict=worth.verdict,
        platforms={image.id: image.platforms for image in found},
        facets=await services.inventory.facets(visit.caller, wanted) if counts else None,
    )


async def _past(
    visit: Visit, services: Services, query: Parameters, at: dt.datetime, after: int
) -> _Found:
    check_past(query)
    seq = query.integer("seq", smallest=0, largest=MAX_INT64)
    if seq is None:
        moment = await services.history.moment(visit.caller, at=at)
    else:
        # The number is the first page's, whatever happens since.
        moment = Moment(seq=seq, at=at)
    wanted = past_filter(query)
    found = await services.history.images(visit.caller, moment, wanted, after=after, limit=_IMAGES)
    return _Found(
        items=[past_item(image) for image in found.items],
        next=asked(query, after=found.next, seq=str(found.as_of)) if found.next else "",
        as_of=found.as_of,
        verdict=found.verdict,
    )


def asked(query: Parameters, **more: str) -> str:
    """The filters of a page as the query of another one."""
    kept = [(name, value) for name, value in query.pairs() if name in FILTERS]
    return urlencode([*kept, *more.items()])


def _narrowed(query: Parameters, facet: str, value: str) -> str:
    """The query that asks for one value of a facet besides what is asked for."""
    if facet in FACET_LABELS:
        return asked(query, label=f"{facet}={value}", facets="true")
    name = _FACETS[facet]
    kept = [(n, v) for n, v in query.pairs() if n in FILTERS and n != name]
    return urlencode([*kept, (name, value), ("facets", "true")])


def moment_asked(visit: Visit, query: Parameters) -> dt.datetime | None:
    """The moment that the list is asked of; without an offset it is by the viewer's clock."""
    text = query.raw("at")
    return None if text is None else visit.moment("at", text)


def _picked(visit: Visit, query: Parameters) -> str:
    """The moment as the form's field takes it; what is no moment is left out."""
    try:
        at = moment_asked(visit, query)
    except InvalidParameterError:
        return ""
    return "" if at is None else visit.picked(at)


@get("/images/export", action=LIST)
async def export_images(visit: TheVisit, services: TheServices) -> Stream:
    """Answer all of what a page shows the beginning of, as a file."""
    query = visit.query.without_blanks()
    wanted = FORMATS[query.choice("format", list(FORMATS)) or "csv"]
    at = moment_asked(visit, query)
    if at is None:
        opening = services.exports.current(visit.caller, image_filter(visit.caller, query))
    else:
        check_past(query)
        opening = services.exports.past(visit.caller, past_filter(query), at=at)
    return await streamed(opening, wanted)


@get("/images/{image_id:str}", action=SHOW)
async def show_image(
    visit: TheVisit, services: TheServices, image_id: FromPath[str]
) -> Response[str]:
    """Show one image: what it is, what belongs to it, and its life, the newest first."""
    life = await services.history.life(visit.caller, _number(image_id))
    listed = await _listed(visit, services, life.id) if visit.may(LIST) else None
    return page(
        visit,
        "image.html",
        life=life,
        versions=tuple(reversed(life.versions))[:_VERSIONS],
        more_versions=max(0, len(life.versions) - _VERSIONS),
        item=None if listed is None else listed_item(listed),
        platforms=() if listed is None else listed.platforms,
    )


async def _listed(visit: Visit, services: Services, image: int) -> ListedImage | None:
    scope = RegistryScope(enterprise_projects=visit.caller.enterprise_projects)
    found = await services.inventory.images_after(
        visit.caller, ImageFilter(scope=scope), after_id=image - 1, limit=1
    )
    return next((one for one in found if one.id == image), None)


def _number(text: str) -> int:
    is_number = text.isascii() and text.isdigit() and len(text) <= _DIGITS
    if not is_number or int(text) > MAX_INT64:
        raise NotFoundError(f"there is no image {text}")
    return int(text)
