"""Reads the stored list: pages of images and registries, exact totals, and what they are worth."""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Any

import msgspec
from psycopg import sql

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
from wharfinger.store.database import Connection, Database
from wharfinger.store.labels import of_repositories
from wharfinger.store.named_sql import queries

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
WITH page AS MATERIALIZED (
    SELECT i.id FROM image i WHERE {images}
    ORDER BY i.id {direction} OFFSET %(offset)s LIMIT %(limit)s
), item AS (
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
_REPOSITORIES = sql.SQL("""
    SELECT r.id FROM repository r JOIN registry g ON g.id = r.registry_id WHERE {conditions}
""")
_NAMED = sql.SQL("SELECT id FROM search_repositories(%(text_pattern)s)").format()
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
# Two arms for two partial unique indexes, which are the only ones that lead from a repository to
# its images; a plain comparison could use neither.
_OF_REPOSITORIES = sql.SQL("""
    ((i.tag IS NOT NULL AND i.repository_id = ANY(%(repository_ids)s))
     OR (i.tag IS NULL AND i.repository_id = ANY(%(repository_ids)s)))
""")
_TOTAL_BY_REPOSITORY = sql.SQL("""
    SELECT coalesce(sum(r.live_images), 0) FROM repository r
    WHERE {tenant} AND r.registry_id = ANY(%(registry_ids)s)
""")
_TOTAL_OF_REPOSITORIES = sql.SQL("""
    SELECT coalesce(sum(r.live_images), 0) FROM repository r
    WHERE {tenant} AND r.id = ANY(%(repository_ids)s)
""")
# What matches, counted by repository: from the counts that repositories keep, or image by image.
_COUNTED_BY_REPOSITORY = sql.SQL("""
    SELECT r.id, r.live_images AS images FROM repository r
    WHERE {tenant} AND r.registry_id = ANY(%(registry_ids)s) AND r.live_images > 0 {those}
""")
_COUNTED_SINGLY = sql.SQL("""
    SELECT i.repository_id AS id, count(*) AS images FROM image i WHERE {images}
    GROUP BY i.repository_id
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
SELECT grouping(g.name, g.kind, g.enterprise_project_id, r.namespace),
       coalesce(g.name, g.kind, g.enterprise_project_id, r.namespace), sum(c.images)::bigint
FROM counted c JOIN repository r ON r.id = c.id JOIN registry g ON g.id = r.registry_id
WHERE {tenant}
GROUP BY GROUPING SETS ((), g.name, g.kind, g.enterprise_project_id, r.namespace)
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
_LATEST = sql.SQL("""
    i.id IN (SELECT r.latest_image_id FROM repository r
             WHERE {tenant} AND r.registry_id = ANY(%(registry_ids)s))
""")


class _Scope(msgspec.Struct, frozen=True):
    registry_ids: list[Any]
    verdict: VerdictState


class Reading:
    """The stored list, read by one tenant at a time."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._queries = queries("reading")

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
        turn = _Turn(offset=offset, limit=limit, descending=descending)
        async with self._database.tenant(project_id) as connection:
            return await self._page(connection, project_id, wanted, turn)

    async def images_after(
        self, project_id: str, wanted: ImageFilter, *, after_id: int, limit: int
    ) -> tuple[ListedImage, ...]:
        """Read the images whose ids follow ``after_id``, in the order of their ids."""
        turn = _Turn(limit=limit, after_id=after_id)
        async with self._database.tenant(project_id) as connection:
            found = (await self._page(connection, project_id, wanted, turn)).items
            found = await self._labelled(connection, project_id, found)
            return await self._attached(connection, project_id, found)

    async def _page(
        self, connection: Connection, project_id: str, wanted: ImageFilter, turn: _Turn
    ) -> ImagePage:
        scope = await self._scope(connection, project_id, wanted.scope)
        values = await self._values(connection, project_id, wanted, scope)
        return await self._page_of(connection, values, wanted, turn, scope.verdict)

    async def _page_of(
        self,
        connection: Connection,
        values: dict[str, Any],
        wanted: ImageFilter,
        turn: _Turn,
        verdict: VerdictState,
    ) -> ImagePage:
        project_id = values["project_id"]
        values |= msgspec.structs.asdict(turn)
        # Never prepared: the best plan depends on how many registries and repositories match.
        cursor = await connection.execute(_page_query(wanted, turn), values, prepare=False)
        rows = await cursor.fetchall()
        as_of, total = rows[0][:2]
        found = [row[2:] for row in rows if row[2] is not None]
        platforms = await self._platforms(connection, project_id, found)
        return ImagePage(
            total=total,
            items=tuple(_listed_image(row, platforms) for row in found),
            as_of=as_of,
            verdict=verdict,
        )

    async def whole(
        self, connection: Connection, project_id: str, wanted: ImageFilter, *, after_id: int
    ) -> tuple[Worth, AsyncGenerator[tuple[ListedImage, ...], None]]:
        """Read everything that matches after an id, in parts, within the caller's transaction."""
        scope = await self._scope(connection, project_id, wanted.scope)
        worth = await self._worth(connection, project_id, scope)
        values = await self._values(connection, project_id, wanted, scope)
        return worth, self._parts(connection, values, wanted, after_id)

    async def _parts(
        self, connection: Connection, values: dict[str, Any], wanted: ImageFilter, after_id: int
    ) -> AsyncGenerator[tuple[ListedImage, ...], None]:
        while True:
            turn = _Turn(limit=PART, after_id=after_id)
            page = await self._page_of(connection, values, wanted, turn, VerdictState.NEVER)
            if page.items:
                after_id = page.items[-1].id
                yield await self._labelled(connection, values["project_id"], page.items)
            if len(page.items) < PART:
                return

    async def worth(self, project_id: str, scope: RegistryScope) -> Worth:
        """Tell what the list of a scope is worth, and whether it is still the same."""
        async with self._database.tenant(project_id) as connection:
            covered = await self._scope(connection, project_id, scope)
            return await self._worth(connection, project_id, covered)

    async def _worth(self, connection: Connection, project_id: str, covered: _Scope) -> Worth:
        cursor = await connection.execute(
            self._queries["as_of"],
            {"project_id": project_id, "registry_ids": covered.registry_ids},
        )
        as_of, state = await cursor.fetchone() or (0, "")
        return Worth(as_of=as_of, verdict=covered.verdict, state=f"{covered.verdict}/{state}")

    async def addresses(self, connection: Connection, project_id: str) -> dict[str, str]:
        """Where images of each registry are pulled from, by the registry's id."""
        cursor = await connection.execute(self._queries["addresses"], {"project_id": project_id})
        return {row[0]: row[1] or row[2] for row in await cursor.fetchall()}

    async def facets(self, project_id: str, wanted: ImageFilter) -> Facets:
        """Count what matches by registry, kind, enterprise project and namespace."""
        async with self._database.tenant(project_id) as connection:
            scope = await self._scope(connection, project_id, wanted.scope)
            values = await self._values(connection, project_id, wanted, scope)
            values |= {"labels_from": _BY_LABELS, "label_keys": list(FACET_LABELS)}
            cursor = await connection.execute(_facets_query(wanted), values, prepare=False)
            return _facets(await cursor.fetchall())

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
        async with self._database.tenant(project_id) as connection:
            cursor = await connection.execute(self._queries["registries"], values)
            rows = await cursor.fetchall()
        total, as_of, verdicts = rows[0][:3]
        return RegistryPage(
            total=total,
            items=tuple(_listed_registry(row[3:]) for row in rows if row[3] is not None),
            as_of=as_of,
            verdict=together(verdicts),
        )

    async def _labelled(
        self, connection: Connection, project_id: str, found: tuple[ListedImage, ...]
    ) -> tuple[ListedImage, ...]:
        repositories = {image.repository_id for image in found}
        labels = await of_repositories(connection, project_id, repositories)
        if not labels:
            return found
        return tuple(
            msgspec.structs.replace(image, labels=labels.get(image.repository_id, {}))
            for image in found
        )

    async def _attached(
        self, connection: Connection, project_id: str, found: tuple[ListedImage, ...]
    ) -> tuple[ListedImage, ...]:
        images = [(image.repository_id, image.digest) for image in found]
        known = await attachments.of_images(connection, project_id, images)
        if not known:
            return found
        return tuple(
            msgspec.structs.replace(image, attachments=known.get(key, ()))
            for image, key in zip(found, images, strict=True)
        )

    async def _values(
        self, connection: Connection, project_id: str, wanted: ImageFilter, scope: _Scope
    ) -> dict[str, Any]:
        values = _image_values(project_id, wanted, scope)
        if wanted.asks_about_repositories:
            values["repository_ids"] = await _ids(connection, _repository_query(wanted), values)
        if wanted.text is not None:
            values["named_ids"] = await _ids(connection, _NAMED, values)
        return values

    async def _scope(self, connection: Connection, project_id: str, scope: RegistryScope) -> _Scope:
        cursor = await connection.execute(self._queries["scope"], _scope_values(project_id, scope))
        rows = await cursor.fetchall()
        return _Scope([row[0] for row in rows], together(row[1] for row in rows))

    async def _platforms(
        self, connection: Connection, project_id: str, rows: Sequence[Sequence[Any]]
    ) -> dict[int, tuple[ListedPlatform, ...]]:
        """Read the children of the indexes among the rows, by the id of the row."""
        indexes = [_IndexRow(row[0], row[13], row[4], row[16]) for row in rows if row[7]]
        if not indexes:
            return {}
        values = {
            "project_id": project_id,
            "registry_ids": list({index.registry_id for index in indexes}),
            "digests": list({index.digest for index in indexes}),
        }
        cursor = await connection.execute(self._queries["platforms"], values)
        children: dict[tuple[str, str], list[Platform]] = defaultdict(list)
        for row in await cursor.fetchall():
            children[str(row[0]), row[1]].append(_platform(row[2:]))
        listed = await self._listed_children(connection, project_id, indexes, children)
        return {
            index.id: tuple(
                ListedPlatform(id=listed.get((index.repository_id, child.digest)), platform=child)
                for child in children[index.registry_id, index.digest]
            )
            for index in indexes
        }

    async def _listed_children(
        self,
        connection: Connection,
        project_id: str,
        indexes: Sequence[_IndexRow],
        children: dict[tuple[str, str], list[Platform]],
    ) -> dict[tuple[int, str], int]:
        values = {
            "project_id": project_id,
            "repository_ids": list({index.repository_id for index in indexes}),
            "digests": list({child.digest for group in children.values() for child in group}),
        }
        cursor = await connection.execute(self._queries["children"], values)
        return {(row[0], row[1]): row[2] for row in await cursor.fetchall()}


class _IndexRow(msgspec.Struct, frozen=True):
    id: int
    registry_id: str
    digest: str
    repository_id: int


async def _ids(connection: Connection, query: sql.Composed, values: dict[str, Any]) -> list[int]:
    cursor = await connection.execute(query, values, prepare=False)
    return [row[0] for row in await cursor.fetchall()]


class _Turn(msgspec.Struct, frozen=True, kw_only=True):
    """Which part of the matching rows: by offset, or those after an id."""

    limit: int
    offset: int = 0
    after_id: int | None = None
    descending: bool = False


def _page_query(wanted: ImageFilter, turn: _Turn) -> sql.Composed:
    images = _image_conditions(wanted)
    in_turns = turn.after_id is not None
    if in_turns:
        # Whoever reads the whole list in turns counts it by reading it.
        images += sql.SQL(" AND i.id > %(after_id)s")
    return _PAGE.format(
        images=images,
        direction=sql.SQL("DESC" if turn.descending else "ASC"),
        updated_ms=_UPDATED_MS,
        synced_ms=_SYNCED_MS,
        image_tenant=IMAGE_TENANT,
        total=sql.SQL("SELECT 0") if in_turns else _total(wanted, images),
    )


def _facets_query(wanted: ImageFilter) -> sql.Composed:
    if wanted.asks_about_single_images:
        counted = _COUNTED_SINGLY.format(images=_image_conditions(wanted))
    else:
        those = sql.SQL("AND r.id = ANY(%(repository_ids)s)")
        counted = _COUNTED_BY_REPOSITORY.format(
            tenant=REPOSITORY_TENANT,
            those=those if wanted.asks_about_repositories else sql.SQL(""),
        )
    labels = _FACETS_OF_LABELS.format(tenant=REPOSITORY_TENANT)
    return _FACETS.format(counted=counted, tenant=REPOSITORY_TENANT, labels=labels)


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
    return _TOTAL_BY_REPOSITORY.format(tenant=REPOSITORY_TENANT)


def _repository_query(wanted: ImageFilter) -> sql.Composed:
    conditions: list[sql.Composable] = [
        REPOSITORY_TENANT,
        sql.SQL("r.registry_id = ANY(%(registry_ids)s)"),
    ]
    if wanted.namespace is not None:
        conditions.append(sql.SQL("r.namespace = %(namespace)s"))
    if wanted.name_contains is not None:
        conditions.append(sql.SQL("r.id IN (SELECT search_repositories(%(name_pattern)s))"))
    conditions += [
        _LABELLED.format(
            key=sql.Placeholder(f"label_key_{n}"), value=sql.Placeholder(f"label_value_{n}")
        )
        for n in range(len(wanted.labels))
    ]
    conditions += _span_conditions(_SYNCED_MS, "synced", wanted.synced)
    return _REPOSITORIES.format(conditions=sql.SQL(" AND ").join(conditions))


def _image_conditions(wanted: ImageFilter) -> sql.Composed:
    # Held rows are listed until somebody accepts that they are gone. What is no container image
    # (signatures, SBOMs, charts) is stored but kept out of this list.
    conditions: list[sql.Composable] = [
        IMAGE_TENANT,
        sql.SQL("i.retired_at IS NULL AND i.artifact_type = ''"),
        sql.SQL("i.registry_id = ANY(%(registry_ids)s)"),
    ]
    if wanted.asks_about_repositories:
        conditions.append(_OF_REPOSITORIES)
    if wanted.latest_only:
        conditions.append(_LATEST.format(tenant=REPOSITORY_TENANT))
    if wanted.tag is not None:
        conditions.append(sql.SQL("i.tag = %(tag)s"))
    if wanted.tag_contains is not None:
        conditions.append(sql.SQL("i.tag ILIKE %(tag_pattern)s"))
    if wanted.text is not None:
        either = "(i.repository_id = ANY(%(named_ids)s) OR i.tag ILIKE %(text_pattern)s)"
        conditions.append(sql.SQL(either))
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
    return sql.SQL(" AND ").join(conditions)


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


def _image_values(project_id: str, wanted: ImageFilter, scope: _Scope) -> dict[str, Any]:
    return {
        "project_id": project_id,
        "registry_ids": scope.registry_ids,
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
