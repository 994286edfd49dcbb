"""Reads the stored list: pages of images and registries, exact totals, and what they are worth."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

import msgspec
from psycopg import sql
from psycopg.rows import TupleRow

from wharfinger.domain.inventory import (
    Facets,
    ImageFilter,
    ImagePage,
    ListedImage,
    ListedPlatform,
    ListedRegistry,
    RegistryFilter,
    RegistryPage,
    RegistryScope,
    Span,
    Worth,
)
from wharfinger.domain.labels import FACET_LABELS
from wharfinger.domain.model import Platform, VerdictState
from wharfinger.store import attachments
from wharfinger.store.database import Ask, Connection, Database, rows_of, within
from wharfinger.store.labels import of_repositories
from wharfinger.store.named_sql import queries
from wharfinger.store.shared import Shared

_SQL = queries("reading")

# The first wall between tenants; row-level security is the second, and holds without it.
IMAGE_TENANT = sql.SQL("i.project_id = %(project_id)s")
REPOSITORY_TENANT = sql.SQL("r.project_id = %(project_id)s")

# The times as they are listed, in whole milliseconds, so that filters agree with what is shown.
_UPDATED_MS = sql.SQL("floor(extract(epoch FROM i.updated_at) * 1000)")
_SYNCED_MS = sql.SQL(
    "floor(extract(epoch FROM coalesce(greatest(r.listed_at,"
    " CASE WHEN r.verdict = 'complete' THEN g.confirmed_at END), r.first_seen_at)) * 1000)"
)

# One statement reads one snapshot: the event number, the total and the rows belong together. The
# ids come first, so that a deep offset passes over index entries and not over whole rows.
_PAGE = sql.SQL("""
WITH {before}page AS MATERIALIZED ({ids}), item AS (
    SELECT i.id, r.namespace, r.name, i.tag, i.digest, i.image_id, i.size, i.is_index,
           r.latest_image_id IS NOT DISTINCT FROM i.id AS is_latest,
           {updated_ms}::bigint AS updated_ms, {synced_ms}::bigint AS synced_ms,
           r.owner, r.shared_status, g.id::text AS registry_id, g.name AS registry_name,
           g.kind AS registry_kind, i.repository_id,
           coalesce(g.options ->> 'instance_id', '') AS instance_id,
           coalesce(g.options ->> 'instance_name', '') AS instance_name,
           coalesce(g.options ->> 'instance_url', '') AS instance_url
    FROM page
    JOIN image i ON i.id = page.id
    JOIN repository r ON r.id = i.repository_id
    JOIN registry g ON g.id = i.registry_id
    WHERE {image_tenant}
)
SELECT coalesce((SELECT f.seq FROM tenant_feed f WHERE f.project_id = %(project_id)s), 0),
       ({total})::bigint,
       item.*
FROM (SELECT) one LEFT JOIN item ON true
ORDER BY item.id {direction}
""")
# Lists of ids are cast, for an array of another width would be gone through for each row, and not
# hashed.
#
# Four ways to a page's ids, of which the planner cannot know the best: how many images a repository
# or a registry has, and where they lie in the order of the ids, is in none of its statistics.
#
# In their order, past what does not match: where much matches.
_IDS_WALKED = sql.SQL("""
    SELECT i.id FROM image i WHERE {images}
    ORDER BY i.id {direction} OFFSET %(offset)s LIMIT %(limit)s
""")
# The same in each of a few registries: what others have is not even passed by.
_IDS_BY_REGISTRY = sql.SQL("""
    SELECT of_one.id FROM unnest(%(registry_ids)s::uuid[]) AS g (id) CROSS JOIN LATERAL (
        SELECT i.id FROM image i WHERE i.registry_id = g.id AND {images}
        ORDER BY i.id {direction} LIMIT %(offset)s + %(limit)s
    ) of_one
    ORDER BY of_one.id {direction} OFFSET %(offset)s LIMIT %(limit)s
""")
# All that match, put in order afterwards: where few do. OFFSET 0 keeps the planner from walking.
_IDS_GATHERED = sql.SQL("""
    SELECT found.id FROM (SELECT i.id FROM image i WHERE {images} OFFSET 0) found
    ORDER BY found.id {direction} OFFSET %(offset)s LIMIT %(limit)s
""")
# With the total of what no count is kept of: everything is looked at for the count already, so the
# page must not look at it again. What lies near comes first; where that does not fill the page, few
# match, or the page is far, and the ids that were counted are kept.
_IDS_COUNTED = sql.SQL("""
    SELECT near.id FROM near WHERE (SELECT count(*) FROM near) >= %(limit)s
    UNION ALL
    (SELECT far.id FROM far ORDER BY far.id {direction} OFFSET %(offset)s LIMIT %(limit)s)
""")
_NEAR_AND_FAR = sql.SQL("""
near AS MATERIALIZED (
    SELECT seen.id FROM (
        SELECT i.id, ({asked}) AS is_asked FROM image i WHERE {listed}
        ORDER BY i.id {direction} LIMIT %(near)s
    ) seen
    WHERE seen.is_asked ORDER BY seen.id {direction} OFFSET %(offset)s LIMIT %(limit)s
), far AS MATERIALIZED (
    SELECT i.id FROM image i WHERE {images} AND (SELECT count(*) FROM near) < %(limit)s
),
""")
_TOTAL_NEAR_OR_FAR = sql.SQL("""
    SELECT CASE WHEN (SELECT count(*) FROM near) < %(limit)s THEN (SELECT count(*) FROM far)
        ELSE ({counted}) END
""")
# What part of the list is near.
_NEAR_PART, _NEAR_LEAST, _NEAR_MOST = 50, 100, 20_000
# By a part of the tag, or of the name or the tag.
_IDS_TAGGED = sql.SQL("""
    SELECT t.id FROM search_tags(%(tag_pattern)s, %(registry_ids)s::uuid[], %(one_by_one)s,
        %(after_id)s, %(limit)s) AS t (id)
""")
_IDS_NAMED_OR_TAGGED = sql.SQL("""
    SELECT found.id FROM (
        (SELECT named.id FROM ({named}) named)
        UNION
        SELECT t.id FROM search_tags(%(text_pattern)s, %(registry_ids)s::uuid[], %(one_by_one)s,
            %(after_id)s, %(limit)s) AS t (id)
    ) found
    ORDER BY found.id LIMIT %(limit)s
""")
# Beside other questions, so many ids are looked up at most; where more match, each row is asked.
_MOST_TAGGED = 5000
_TAGGED = sql.SQL("""
    SELECT t.id FROM search_tags(%(tag_pattern)s, %(registry_ids)s::uuid[], %(one_by_one)s,
        0, %(most_tagged)s) AS t (id)
""")
_TAGGED_TEXT = sql.SQL("""
    SELECT t.id FROM search_tags(%(text_pattern)s, %(registry_ids)s::uuid[], %(one_by_one)s,
        0, %(most_tagged)s) AS t (id)
""")
# What part of the tenant's images a scope's registries may have to be read one by one.
_FEW_REGISTRIES, _SMALL_PART = 50, 0.5
_SOON_GATHERED = 10_000
_REPOSITORIES = sql.SQL("""
    SELECT r.id, r.live_images FROM repository r JOIN registry g ON g.id = r.registry_id
    WHERE {conditions}
""")
_NAMED = sql.SQL("""
    SELECT r.id, r.live_images FROM repository r
    WHERE {tenant} AND r.registry_id = ANY(%(registry_ids)s)
      AND r.id = ANY(ARRAY(SELECT search_repositories(%(text_pattern)s)))
""")
# The nearest label counts: a repository's own before its namespace's before its registry's.
_LABELLED = sql.SQL("""
    {value} = (
        SELECT l.value FROM label l
        WHERE l.project_id = %(project_id)s AND l.registry_id = r.registry_id AND l.key = {key}
          AND (l.namespace IS NULL OR l.namespace = r.namespace)
          AND (l.repository IS NULL OR l.repository = r.name)
        ORDER BY l.repository NULLS LAST, l.namespace NULLS LAST LIMIT 1)
""")
# Comparisons that are leakproof, so that row-level security leaves the planner every way to join.
_ATTACHED = sql.SQL("""
    {holds} (SELECT FROM attachment a
             WHERE a.project_id = %(project_id)s AND a.repository_id = i.repository_id
               AND a.subject = i.digest AND a.kind = {kind})
""")
_TOTAL_BY_REGISTRY = sql.SQL("""
    SELECT coalesce(sum(c.images), 0) FROM live_count c
    WHERE c.project_id = %(project_id)s AND c.registry_id = ANY(%(registry_ids)s)
""")
_TOTAL_OF_REPOSITORIES = sql.SQL("""
    SELECT coalesce(sum(r.live_images), 0) FROM repository r
    WHERE {tenant} AND r.id = ANY(%(repository_ids)s::bigint[])
""")
# What matches, counted by registry and namespace where these are all that is told, else by
# repository: from the counts that are kept, or image by image.
_COUNTED = sql.SQL("""
    SELECT NULL::bigint AS id, c.registry_id, c.namespace, sum(c.images) AS images FROM live_count c
    WHERE c.project_id = %(project_id)s AND c.registry_id = ANY(%(registry_ids)s)
    GROUP BY c.registry_id, c.namespace HAVING sum(c.images) > 0
""")
_COUNTED_BY_REPOSITORY = sql.SQL("""
    SELECT r.id, r.registry_id, r.namespace, r.live_images AS images FROM repository r
    WHERE {tenant} AND r.registry_id = ANY(%(registry_ids)s) AND r.live_images > 0 {those}
""")
_COUNTED_SINGLY = sql.SQL("""
    SELECT r.id, r.registry_id, r.namespace, i.images FROM (
        SELECT i.repository_id, count(*) AS images FROM image i WHERE {images}
        GROUP BY i.repository_id
    ) i JOIN repository r ON r.id = i.repository_id WHERE {tenant}
""")
# A key that nobody has put anywhere in sight costs nothing.
_FACETS_OF_LABELS = sql.SQL("""
SELECT %(labels_from)s + k.number, l.value, sum(c.images)::bigint
FROM counted c JOIN repository r ON r.id = c.id
    CROSS JOIN unnest(%(label_keys)s::text[]) WITH ORDINALITY AS k (key, number)
    LEFT JOIN LATERAL (
        SELECT l.value FROM label l
        WHERE l.project_id = %(project_id)s AND l.registry_id = r.registry_id AND l.key = k.key
          AND (l.namespace IS NULL OR l.namespace = r.namespace)
          AND (l.repository IS NULL OR l.repository = r.name)
        ORDER BY l.repository NULLS LAST, l.namespace NULLS LAST LIMIT 1
    ) l ON true
WHERE {tenant} AND EXISTS (
    SELECT FROM label a WHERE a.project_id = %(project_id)s
      AND a.registry_id = ANY(%(registry_ids)s) AND a.key = k.key
)
GROUP BY k.number, l.value
""")
_FACETS = sql.SQL("""
WITH counted AS MATERIALIZED ({counted})
SELECT grouping(g.name, g.kind, g.enterprise_project_id, c.namespace),
       coalesce(g.name, g.kind, g.enterprise_project_id, c.namespace), sum(c.images)::bigint
FROM counted c JOIN registry g ON g.id = c.registry_id
WHERE g.project_id = %(project_id)s
GROUP BY GROUPING SETS ((), g.name, g.kind, g.enterprise_project_id, c.namespace)
UNION ALL
{labels}
ORDER BY 1, 3 DESC, 2
""")
# The bits of grouping(): what a row is not grouped by.
_BY_NOTHING, _BY_REGISTRY, _BY_KIND, _BY_ENTERPRISE_PROJECT, _BY_NAMESPACE = 15, 7, 11, 13, 14
# Rows of labels are numbered behind those, from 1.
_BY_LABELS = 100
MOST_NAMESPACES = 200
# Rows of a whole list that are in memory at once.
PART = 2000
_TOTAL_COUNTED = sql.SQL("SELECT count(*) FROM image i WHERE {images}")
# Held rows are listed until somebody accepts that they are gone. What is no container image
# (signatures, SBOMs, charts) is stored but kept out of this list.
_LISTED = sql.SQL(
    "{} AND i.retired_at IS NULL AND i.artifact_type = '' AND i.registry_id = ANY(%(registry_ids)s)"
).format(IMAGE_TENANT)
_TAG_IS_KNOWN = sql.SQL("i.id = ANY(%(tagged_ids)s::bigint[])")
_LATEST = sql.SQL("""
    i.id IN (SELECT r.latest_image_id FROM repository r
             WHERE {tenant} AND r.registry_id = ANY(%(registry_ids)s))
""")


class _Picked(msgspec.Struct, frozen=True, kw_only=True):
    """What a filter came to before any image was looked at.

    ``matches`` is how many images the matching repositories list, where any are asked for,
    ``named`` how many those whose name matches a text. ``every_tagged``: all images whose tag
    matches are in the values.
    """

    values: dict[str, Any]
    matches: int = 0
    named: int = 0
    every_tagged: bool = False


class Reading:
    """The stored list, read by one tenant at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = _SQL
        self._shared = Shared()

    async def images(
        self,
        project_id: str,
        wanted: ImageFilter,
        *,
        offset: int,
        limit: int,
        descending: bool = False,
    ) -> ImagePage:
        """Read one page of images, in the order of their ids."""
        ask = self._database.asking(project_id)
        turn = _Turn(offset=offset, limit=limit, descending=descending)
        worth = await self._worth(ask, project_id, wanted.scope)
        rows = await _page(ask, project_id, wanted, turn, worth)
        as_of, total = rows[0][:2]
        found = [row[2:] for row in rows if row[2] is not None]
        platforms = await _platforms(ask, project_id, found)
        return ImagePage(
            total=total,
            items=tuple(_listed_image(row, platforms) for row in found),
            as_of=as_of,
            verdict=worth.verdict,
        )

    async def images_after(
        self,
        project_id: str,
        wanted: ImageFilter,
        *,
        after_id: int,
        limit: int,
        worth: Worth | None = None,
    ) -> tuple[ListedImage, ...]:
        """Read the images whose ids follow ``after_id``, in the order of their ids.

        ``worth`` is what was told of the same scope right before, and saves asking again.
        """
        ask = self._database.asking(project_id)
        worth = worth or await self._worth(ask, project_id, wanted.scope)
        rows = await _page(ask, project_id, wanted, _Turn(limit=limit, after_id=after_id), worth)
        return await _told_of(ask, project_id, rows, worth)

    async def whole(
        self, connection: Connection, project_id: str, wanted: ImageFilter, *, after_id: int
    ) -> tuple[Worth, AsyncGenerator[tuple[ListedImage, ...], None]]:
        """Read everything that matches after an id, in parts, within the caller's transaction."""
        ask = within(connection)
        worth = await self._worth(ask, project_id, wanted.scope)
        return worth, _parts(ask, project_id, wanted, after_id, worth)

    async def addresses(self, connection: Connection, project_id: str) -> dict[str, str]:
        """Where images of each registry are pulled from, by the registry's id."""
        cursor = await connection.execute(self._queries["addresses"], {"project_id": project_id})
        return {row[0]: row[1] or row[2] for row in await cursor.fetchall()}

    async def worth(self, project_id: str, scope: RegistryScope) -> Worth:
        """Tell what the list of a scope is worth, and whether it is still the same."""
        ask = self._database.asking(project_id)
        return await self._shared.ask(
            (project_id, scope), lambda: self._worth(ask, project_id, scope)
        )

    async def _worth(self, ask: Ask, project_id: str, scope: RegistryScope) -> Worth:
        values = _scope_values(project_id, scope)
        ((as_of, state, ids, verdicts, *facts),) = await rows_of(
            ask, self._queries["covered"], values
        )
        verdict = together(verdicts or ())
        images, images_of_all, has_labels, has_attachments = facts
        return Worth(
            as_of=as_of,
            verdict=verdict,
            state=f"{verdict}/{state}",
            registry_ids=tuple(ids or ()),
            images=images,
            images_of_all=images_of_all,
            has_labels=has_labels,
            has_attachments=has_attachments,
        )

    async def facets(self, project_id: str, wanted: ImageFilter) -> Facets:
        """Count what matches by registry, kind, enterprise project and namespace."""
        ask = self._database.asking(project_id)
        worth = await self._worth(ask, project_id, wanted.scope)
        picked = await _picked(ask, project_id, wanted, worth)
        values = picked.values | {"labels_from": _BY_LABELS, "label_keys": list(FACET_LABELS)}
        return _facets(await rows_of(ask, _facets_query(wanted, worth, picked), values))

    async def count_images(self, project_id: str, scope: RegistryScope) -> ImagePage:
        """Count the images of a scope; the answer is a page without rows."""
        everything = ImageFilter(scope=scope)
        return await self.images(project_id, everything, offset=0, limit=0)

    async def registries(
        self, project_id: str, wanted: RegistryFilter, *, offset: int, limit: int
    ) -> RegistryPage:
        """Read one page of registries, by name."""
        values = _scope_values(project_id, wanted.scope) | {
            "registry_id": wanted.registry_id,
            "address": wanted.address,
            "status": wanted.status,
            "offset": offset,
            "limit": limit,
        }
        ask = self._database.asking(project_id)
        rows = await rows_of(ask, self._queries["registries"], values)
        total, as_of, verdicts = rows[0][:3]
        return RegistryPage(
            total=total,
            items=tuple(_listed_registry(row[3:]) for row in rows if row[3] is not None),
            as_of=as_of,
            verdict=together(verdicts),
        )


async def _page(
    ask: Ask, project_id: str, wanted: ImageFilter, turn: _Turn, worth: Worth
) -> list[TupleRow]:
    plain = turn.after_id is not None and wanted.asks_about_tags_only
    picked = await _picked(ask, project_id, wanted, worth, look_up_tags=not plain)
    values = picked.values | msgspec.structs.asdict(turn)
    return await rows_of(ask, _page_query(wanted, turn, worth, picked), values)


async def _picked(
    ask: Ask, project_id: str, wanted: ImageFilter, worth: Worth, *, look_up_tags: bool = True
) -> _Picked:
    values = _image_values(project_id, wanted, worth)
    matches = named = 0
    if wanted.asks_about_repositories:
        rows = await rows_of(ask, _repository_query(wanted), values)
        values["repository_ids"], matches = [row[0] for row in rows], sum(row[1] for row in rows)
    if wanted.text is not None:
        rows = await rows_of(ask, _NAMED.format(tenant=REPOSITORY_TENANT), values)
        values["named_ids"], named = [row[0] for row in rows], sum(row[1] for row in rows)
    every_tagged = False
    if look_up_tags and (wanted.tag_contains is not None or wanted.text is not None):
        rows = await rows_of(ask, _TAGGED_TEXT if wanted.tag_contains is None else _TAGGED, values)
        values["tagged_ids"] = [row[0] for row in rows]
        every_tagged = len(rows) <= _MOST_TAGGED
    return _Picked(values=values, matches=matches, named=named, every_tagged=every_tagged)


async def _parts(
    ask: Ask, project_id: str, wanted: ImageFilter, after_id: int, worth: Worth
) -> AsyncGenerator[tuple[ListedImage, ...], None]:
    while True:
        turn = _Turn(limit=PART, after_id=after_id)
        rows = await _page(ask, project_id, wanted, turn, worth)
        found = await _told_of(ask, project_id, rows, worth)
        if found:
            after_id = found[-1].id
            yield found
        if len(found) < PART:
            return


async def _platforms(
    ask: Ask, project_id: str, rows: Sequence[Sequence[Any]]
) -> dict[int, tuple[ListedPlatform, ...]]:
    """Read the children of the indexes among the rows, by the id of the row."""
    indexes = [row for row in rows if row[7]]
    if not indexes:
        return {}
    values = {
        "project_id": project_id,
        "ids": [row[0] for row in indexes],
        "registry_ids": [row[13] for row in indexes],
        "repository_ids": [row[16] for row in indexes],
        "digests": [row[4] for row in indexes],
    }
    children: dict[int, list[ListedPlatform]] = defaultdict(list)
    for row in await rows_of(ask, _SQL["platforms"], values):
        children[row[0]].append(ListedPlatform(id=row[7], platform=_platform(row[1:7])))
    return {index: tuple(platforms) for index, platforms in children.items()}


async def _told_of(
    ask: Ask, project_id: str, rows: Sequence[TupleRow], worth: Worth
) -> tuple[ListedImage, ...]:
    """The images of a page's rows with platforms, labels, and what is attached to them."""
    images = [row[2:] for row in rows if row[2] is not None]
    platforms = await _platforms(ask, project_id, images)
    found = tuple(_listed_image(row, platforms) for row in images)
    if worth.has_labels:
        labels = await of_repositories(ask, project_id, {one.repository_id for one in found})
        found = tuple(
            msgspec.structs.replace(image, labels=labels.get(image.repository_id, {}))
            for image in found
        )
    if not worth.has_attachments:
        return found
    keys = [(image.repository_id, image.digest) for image in found]
    known = await attachments.of_images(ask, project_id, keys)
    return tuple(
        msgspec.structs.replace(image, attachments=known.get(key, ()))
        for image, key in zip(found, keys, strict=True)
    )


class _Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the matching rows: by offset, or those after an id."""

    limit: int
    offset: int = 0
    after_id: int | None = None
    descending: bool = False

    @property
    def direction(self) -> sql.SQL:
        return sql.SQL("DESC" if self.descending else "ASC")


def _page_query(wanted: ImageFilter, turn: _Turn, worth: Worth, picked: _Picked) -> sql.Composed:
    images = _image_conditions(wanted, every_tagged=picked.every_tagged)
    ids, total = _ids(wanted, turn, worth, picked), _total(wanted, images)
    before: sql.Composable = sql.SQL("")
    if turn.after_id is not None:
        # Whoever reads the whole list in turns counts it by reading it.
        total = sql.SQL("SELECT 0")
    elif wanted.asks_about_single_images and not _is_gathered(
        turn, worth, _matches(wanted, picked)
    ):
        asked = _beyond_listed(wanted, every_tagged=picked.every_tagged)
        parts = {"asked": sql.SQL(" AND ").join(asked), "listed": _LISTED, "images": images}
        before = _NEAR_AND_FAR.format(**parts, direction=turn.direction)
        ids = _IDS_COUNTED.format(direction=turn.direction)
        total = _TOTAL_NEAR_OR_FAR.format(counted=total)
    return _PAGE.format(
        before=before,
        ids=ids,
        direction=turn.direction,
        updated_ms=_UPDATED_MS,
        synced_ms=_SYNCED_MS,
        image_tenant=IMAGE_TENANT,
        total=total,
    )


def _ids(wanted: ImageFilter, turn: _Turn, worth: Worth, picked: _Picked) -> sql.Composable:
    if turn.after_id is not None and wanted.asks_about_tags_only:
        if wanted.text is None:
            return _IDS_TAGGED
        images = sql.SQL("{} AND i.repository_id = ANY(%(named_ids)s::bigint[])").format(_LISTED)
        return _IDS_NAMED_OR_TAGGED.format(named=_ordered(images, turn, worth, picked.named))
    images = _image_conditions(wanted, every_tagged=picked.every_tagged)
    return _ordered(images, turn, worth, _matches(wanted, picked))


def _matches(wanted: ImageFilter, picked: _Picked) -> int | None:
    """How many images come into question at most, if anything is known of that."""
    if picked.every_tagged:
        return 0
    return picked.matches if wanted.asks_about_repositories else None


def _is_gathered(turn: _Turn, worth: Worth, matches: int | None) -> bool:
    """Whether so many are better gathered than walked to.

    Walking passes by as many images, on the way to the page's last, as there are for each match;
    or by almost all, where those that match came last. So what is soon gathered, is.
    """
    wanted = turn.offset + turn.limit
    most = max(_SOON_GATHERED, (wanted * worth.images) ** 0.5)
    return matches is not None and matches <= most


def _ordered(
    images: sql.Composable, turn: _Turn, worth: Worth, matches: int | None
) -> sql.Composable:
    """The ids of a page, of so many images that come into question."""
    if turn.after_id is not None:
        images = sql.SQL("{} AND i.id > %(after_id)s").format(images)
    if _is_gathered(turn, worth, matches):
        return _IDS_GATHERED.format(images=images, direction=turn.direction)
    walk = _IDS_BY_REGISTRY if _is_one_by_one(worth) else _IDS_WALKED
    return walk.format(images=images, direction=turn.direction)


def _is_one_by_one(worth: Worth) -> bool:
    """Whether a scope's registries are few, and a small part of all, so that each is read alone."""
    small_part = worth.images < worth.images_of_all * _SMALL_PART
    return small_part and len(worth.registry_ids) <= _FEW_REGISTRIES


def _facets_query(wanted: ImageFilter, worth: Worth, picked: _Picked) -> sql.Composed:
    if wanted.asks_about_single_images:
        images = _image_conditions(wanted, every_tagged=picked.every_tagged)
        counted = _COUNTED_SINGLY.format(images=images, tenant=REPOSITORY_TENANT)
    elif wanted.asks_about_repositories or worth.has_labels:
        those = sql.SQL("AND r.id = ANY(%(repository_ids)s::bigint[])")
        counted = _COUNTED_BY_REPOSITORY.format(
            tenant=REPOSITORY_TENANT,
            those=those if wanted.asks_about_repositories else sql.SQL(""),
        )
    else:
        counted = _COUNTED.format()
    labels = _FACETS_OF_LABELS.format(tenant=REPOSITORY_TENANT)
    return _FACETS.format(counted=counted, labels=labels)


def _facets(rows: Sequence[Sequence[Any]]) -> Facets:
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for by, value, images in rows:
        found[by][value or ""] = images
    namespaces = list(found[_BY_NAMESPACE].items())
    labels = {key: found[_BY_LABELS + n] for n, key in enumerate(FACET_LABELS, start=1)}
    return Facets(
        total=found[_BY_NOTHING].get("") or 0,
        registries=found[_BY_REGISTRY],
        kinds=found[_BY_KIND],
        enterprise_projects=found[_BY_ENTERPRISE_PROJECT],
        namespaces=dict(namespaces[:MOST_NAMESPACES]),
        more_namespaces=len(namespaces) > MOST_NAMESPACES,
        labels={
            key: dict(itertools.islice(values.items(), MOST_NAMESPACES))
            for key, values in labels.items()
            if values
        },
        more_labels=[key for key, values in labels.items() if len(values) > MOST_NAMESPACES],
    )


def _total(wanted: ImageFilter, images: sql.Composable) -> sql.Composable:
    if wanted.asks_about_single_images:
        return _TOTAL_COUNTED.format(images=images)
    if wanted.asks_about_repositories:
        return _TOTAL_OF_REPOSITORIES.format(tenant=REPOSITORY_TENANT)
    return _TOTAL_BY_REGISTRY


def _repository_query(wanted: ImageFilter) -> sql.Composed:
    conditions: list[sql.Composable] = [
        REPOSITORY_TENANT,
        sql.SQL("r.registry_id = ANY(%(registry_ids)s)"),
    ]
    if wanted.namespace is not None:
        conditions.append(sql.SQL("r.namespace = %(namespace)s"))
    if wanted.name_contains is not None:
        conditions.append(
            sql.SQL("r.id = ANY(ARRAY(SELECT search_repositories(%(name_pattern)s)))")
        )
    conditions += [
        _LABELLED.format(
            key=sql.Placeholder(f"label_key_{n}"), value=sql.Placeholder(f"label_value_{n}")
        )
        for n in range(len(wanted.labels))
    ]
    conditions += _span_conditions(_SYNCED_MS, "synced", wanted.synced)
    return _REPOSITORIES.format(conditions=sql.SQL(" AND ").join(conditions))


def _image_conditions(wanted: ImageFilter, *, every_tagged: bool) -> sql.Composed:
    return sql.SQL(" AND ").join([_LISTED, *_beyond_listed(wanted, every_tagged=every_tagged)])


def _beyond_listed(wanted: ImageFilter, *, every_tagged: bool) -> list[sql.Composable]:
    conditions: list[sql.Composable] = []
    if wanted.asks_about_repositories:
        conditions.append(sql.SQL("i.repository_id = ANY(%(repository_ids)s::bigint[])"))
    if wanted.latest_only:
        conditions.append(_LATEST.format(tenant=REPOSITORY_TENANT))
    if wanted.tag is not None:
        conditions.append(sql.SQL("i.tag = %(tag)s"))
    if wanted.tag_contains is not None:
        conditions.append(_TAG_IS_KNOWN if every_tagged else sql.SQL("i.tag ILIKE %(tag_pattern)s"))
    if wanted.text is not None:
        # The ids that were looked up are those of the one part that was asked for.
        known = every_tagged and wanted.tag_contains is None
        tagged = _TAG_IS_KNOWN if known else sql.SQL("i.tag ILIKE %(text_pattern)s")
        either = sql.SQL("(i.repository_id = ANY(%(named_ids)s::bigint[]) OR {})")
        conditions.append(either.format(tagged))
    if wanted.digest is not None:
        conditions.append(sql.SQL("i.digest = %(digest)s"))
    if wanted.image_id is not None:
        conditions.append(sql.SQL("i.image_id = %(image_id)s"))
    if wanted.size is not None:
        conditions.append(sql.SQL("i.size = %(size)s"))
    if wanted.is_index is not None:
        conditions.append(sql.SQL("i.is_index = %(is_index)s"))
    conditions += [
        _ATTACHED.format(holds=_HOLDS[is_there], kind=sql.Literal(kind.value))
        for kind, is_there in wanted.attached.items()
    ]
    conditions += _span_conditions(_UPDATED_MS, "updated", wanted.updated)
    return conditions


def _span_conditions(time: sql.SQL, name: str, span: Span) -> list[sql.Composable]:
    ends = (("from", ">=", span.start_ms), ("to", "<=", span.end_ms))
    return [
        sql.SQL("{time} {operator} {bound}").format(
            time=time, operator=_OPERATORS[operator], bound=sql.Placeholder(f"{name}_{end}")
        )
        for end, operator, bound in ends
        if bound is not None
    ]


_HOLDS = {True: sql.SQL("EXISTS"), False: sql.SQL("NOT EXISTS")}
_OPERATORS = {">=": sql.SQL(">="), "<=": sql.SQL("<=")}


def _image_values(project_id: str, wanted: ImageFilter, worth: Worth) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "registry_ids": list(worth.registry_ids),
        "one_by_one": _is_one_by_one(worth),
        "near": min(max(worth.images // _NEAR_PART, _NEAR_LEAST), _NEAR_MOST),
        "most_tagged": _MOST_TAGGED + 1,
        "namespace": wanted.namespace,
        "name_pattern": _pattern(wanted.name_contains or ""),
        "tag": wanted.tag,
        "tag_pattern": _pattern(wanted.tag_contains or ""),
        "text_pattern": _pattern(wanted.text or ""),
        "digest": wanted.digest,
        "image_id": wanted.image_id,
        "size": wanted.size,
        "is_index": wanted.is_index,
        "updated_from": wanted.updated.start_ms,
        "updated_to": wanted.updated.end_ms,
        "synced_from": wanted.synced.start_ms,
        "synced_to": wanted.synced.end_ms,
        **{f"label_key_{n}": key for n, (key, _) in enumerate(wanted.labels)},
        **{f"label_value_{n}": value for n, (_, value) in enumerate(wanted.labels)},
    }


def _scope_values(project_id: str, scope: RegistryScope) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "enterprise_projects": list(scope.enterprise_projects),
        "registry_name": scope.registry_name,
        "kinds": None if scope.kinds is None else list(scope.kinds),
        "instance_id": scope.instance_id,
        "instance_name": scope.instance_name,
    }


def _pattern(text: str) -> str:
    """Make the pattern that finds a text anywhere and takes none of it for a wildcard."""
    escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
    return f"%{escaped}%"


def together(verdicts: Iterable[str]) -> VerdictState:
    """Judge several lists as one. Where there is no registry, nothing was ever listed."""
    distinct = {VerdictState(verdict) for verdict in verdicts} or {VerdictState.NEVER}
    if len(distinct) == 1:
        return distinct.pop()
    aged = {VerdictState.COMPLETE, VerdictState.STALE}
    return VerdictState.STALE if distinct == aged else VerdictState.PARTIAL


def _platform(row: Sequence[Any]) -> Platform:
    digest, os, architecture, variant, size, image_id = row
    return Platform(
        digest=digest,
        os=os,
        architecture=architecture,
        variant=variant,
        size=size,
        image_id=image_id,
    )


def _listed_image(
    row: Sequence[Any], platforms: dict[int, tuple[ListedPlatform, ...]]
) -> ListedImage:
    return ListedImage(
        id=row[0],
        namespace=row[1],
        name=row[2],
        tag=row[3],
        digest=row[4],
        image_id=row[5],
        size=row[6],
        is_index=row[7],
        is_latest=row[8],
        updated_ms=row[9],
        synced_ms=row[10],
        owner=row[11],
        shared_status=row[12],
        registry_id=row[13],
        registry_name=row[14],
        registry_kind=row[15],
        repository_id=row[16],
        instance_id=row[17],
        instance_name=row[18],
        instance_url=row[19],
        platforms=platforms.get(row[0], ()),
    )


def _listed_registry(row: Sequence[Any]) -> ListedRegistry:
    return ListedRegistry(
        id=row[0],
        name=row[1],
        kind=row[2],
        address=row[3],
        user_name=row[4],
        status=row[5],
        reason_code=row[6],
        images=row[7],
        synced_at=row[8],
        hss=row[9],
    )
