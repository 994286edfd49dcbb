"""One client reads a list of a million images over HTTP, and the same SQL runs beside it."""

from __future__ import annotations

import datetime as dt
import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import quote

import msgspec

from bench.large.service import Asked, Client, Libpq, Service, asked_by
from bench.large.town import PROJECT, Say, Town
from bench.report import Line
from wharfinger.http.api.call import cursor

API, HSS = f"/api/v1/projects/{PROJECT}/images", f"/v5/{PROJECT}/image/registries/images"
ALL = "enterprise_project_id=all_granted_eps"
TIMES_SQL, TIMES_COUNT, TIMES_NOW = 3.0, 1.2, 2.0
MOST_GROWTH = 1.05
# A slow case is measured less often: its figure hardly varies, and the whole must take minutes.
ROUNDS, SLOW_S, SLOW_ROUNDS = 100, 0.08, 9


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question. ``most_ms`` is its target, ``times`` how often its SQL's time it may take."""

    name: str
    target: str
    most_ms: float | None = None
    times: float | None = None
    # Beside this instead of beside its own SQL: a bare count.
    count: str = ""


@dataclass(kw_only=True)
class Measured:
    """What a case took, in seconds, over HTTP and over libpq, measured in turns."""

    case: Case
    http: list[float] = field(default_factory=list)
    sql: list[float] = field(default_factory=list)
    known: list[float] = field(default_factory=list)
    body: int = 0

    @property
    def ms(self) -> float:
        return statistics.median(self.http) * 1000

    @property
    def sql_ms(self) -> float:
        return statistics.median(self.sql) * 1000

    @property
    def ratio(self) -> float:
        return self.ms / self.sql_ms


@dataclass(frozen=True, kw_only=True)
class Landmarks:
    """What the questions are about."""

    half: int
    end: int
    digest: str
    registry: str
    namespace: str
    enterprise_project: str


def landmarks(town: Town) -> Landmarks:
    with town.connect(as_owner=True) as connection:
        first, last = _row(
            connection, "SELECT min(id), max(id) FROM image WHERE project_id = %s", PROJECT
        )
        digest, registry, namespace, enterprise_project = _row(
            connection,
            """
            SELECT i.digest, g.name, r.namespace, g.enterprise_project_id
            FROM image i JOIN repository r ON r.id = i.repository_id
            JOIN registry g ON g.id = i.registry_id
            WHERE i.id BETWEEN %s AND %s AND g.enterprise_project_id <> '0' AND i.tag LIKE 'v%%'
            ORDER BY i.id DESC LIMIT 1
            """,
            first,
            last - (last - first) // 100,
        )
    return Landmarks(
        half=(first + last) // 2,
        end=last - 100,
        digest=digest,
        registry=registry,
        namespace=namespace,
        enterprise_project=enterprise_project,
    )


def _row(connection: Any, query: str, *values: Any) -> Any:
    return connection.execute(query, values).fetchone()


def cases(marks: Landmarks) -> list[Case]:
    """Every question of the issue's table."""
    page = f"{API}?limit=100"
    month_ago = f"{dt.datetime.now(dt.UTC) - dt.timedelta(days=30):%Y-%m-%dT%H:%M:%SZ}"
    total = f"{HSS}?limit=1&{ALL}"
    return [
        Case(name="page of 100, first", target=page, most_ms=4, times=TIMES_SQL),
        Case(
            name="page of 100, half way",
            target=f"{page}&after={cursor(marks.half)}",
            most_ms=4,
            times=TIMES_SQL,
        ),
        Case(
            name="page of 100, last",
            target=f"{page}&after={cursor(marks.end)}",
            most_ms=4,
            times=TIMES_SQL,
        ),
        Case(
            name="by digest",
            target=f"{page}&digest={quote(marks.digest)}",
            most_ms=2,
            times=TIMES_SQL,
        ),
        *(
            Case(name=f"{what}, {how}", target=f"{page}&{asked}", most_ms=20, times=TIMES_SQL)
            for what, how, asked in (
                ("part of a name", "common", "name=api"),
                ("part of a name", "rare", "name=quetzal"),
                ("part of a tag", "common", "tag_contains=release"),
                ("part of a tag", "rare", "tag_contains=cve-2026-31337"),
                ("part of a tag", "nowhere", "tag_contains=zzz"),
                ("part of name or tag", "rare", "text=quetzal"),
            )
        ),
        Case(
            name="HSS page at offset 50,000",
            target=f"{HSS}?limit=100&offset=50000&{ALL}",
            most_ms=30,
            times=TIMES_SQL,
        ),
        Case(name="at=T, first page", target=f"{page}&at={month_ago}"),
        Case(name="total_num by project", target=total, most_ms=10),
        Case(
            name="total_num by enterprise project",
            target=f"{HSS}?limit=1&enterprise_project_id={marks.enterprise_project}",
            most_ms=10,
        ),
        Case(
            name="total_num by registry",
            target=f"{total}&registry_name={marks.registry}",
            most_ms=10,
        ),
        Case(name="total_num by type", target=f"{total}&image_type=private_image", most_ms=10),
        Case(
            name="total_num by namespace", target=f"{total}&namespace={marks.namespace}", most_ms=10
        ),
        *(
            Case(name=f"total_num by {what}", target=f"{total}&{asked}", count=condition)
            for what, asked, condition in (
                ("version", "image_version=latest", "i.tag = 'latest'"),
                ("size", "image_size=5000000", "i.size = 5000000"),
                ("architecture", "is_multarch=true", "i.is_index"),
                (
                    "update time",
                    "start_latest_update_time=1780000000000",
                    "floor(extract(epoch FROM i.updated_at) * 1000) >= 1780000000000",
                ),
            )
        ),
    ]


async def measure(
    town: Town, app: Any, service: Service, say: Say, *, rounds: int
) -> list[Measured]:
    """Every case, over HTTP and over libpq in turns."""
    found = []
    client = service.client()
    for case in cases(landmarks(town)):
        statements = await asked_by(app, case.target, service.token)
        libpq = Libpq(town, [*_counting(case)] or statements)
        found.append(_measure(case, client, libpq, rounds))
        libpq.close()
        say(
            f"{case.name}: {found[-1].ms:.2f} ms over HTTP, {found[-1].sql_ms:.2f} ms over libpq"
            f" ({len(statements)} statements)"
        )
    client.close()
    return found


def _counting(case: Case) -> Iterator[Asked]:
    if case.count:
        query = (
            "SELECT count(*) FROM image i WHERE i.project_id = %(project)s AND i.retired_at IS NULL"
            f" AND i.artifact_type = '' AND {case.count.replace('%', '%%')}"
        )
        tenant = "SELECT set_config('wharfinger.tenant', %(project)s, true)"
        for text in (tenant, query):
            yield Asked(tenant=None, query=text, values={"project": PROJECT})


def _measure(case: Case, client: Client, libpq: Libpq, rounds: int) -> Measured:
    measured = Measured(case=case)
    # The first fills caches on both sides.
    slowest = max(client.get(case.target).seconds, libpq.seconds())
    for _ in range(rounds if slowest < SLOW_S else min(rounds, SLOW_ROUNDS)):
        answer = client.get(case.target)
        measured.http.append(answer.seconds)
        measured.sql.append(libpq.seconds())
        measured.body = len(answer.body)
        if "etag" in answer.headers:
            again = client.get(case.target, etag=answer.headers["etag"])
            measured.known += [again.seconds] if again.status == 304 else []
    return measured


def lines(images: int, found: Sequence[Measured]) -> list[Line]:
    """The verdicts of one client's reading."""
    told = [line for one in found for line in _lines(f"{images:,} images, {one.case.name}", one)]
    by_name = {one.case.name: one for one in found}
    now, then = by_name["page of 100, first"], by_name["at=T, first page"]
    return [
        *told,
        _at_most(
            f"{images:,} images, at=T", "at=T / the current page", then.ms / now.ms, TIMES_NOW
        ),
    ]


def _lines(case: str, one: Measured) -> Iterator[Line]:
    value = f"{one.ms:.2f} ms ({min(one.http) * 1000:.2f} to {max(one.http) * 1000:.2f})"
    most = one.case.most_ms
    met = None if most is None else one.ms < most
    yield Line(
        case=case, what="p50", value=value, target=f"under {most:g} ms" if most else "", met=met
    )
    if one.known:
        yield Line(
            case=case,
            what="p50, not modified",
            value=f"{statistics.median(one.known) * 1e3:.2f} ms",
        )
    beside = "the bare count" if one.case.count else "the same SQL over libpq"
    most = TIMES_COUNT if one.case.count else one.case.times
    if most is not None:
        yield _at_most(case, f"p50 / {beside} ({one.sql_ms:.2f} ms)", one.ratio, most)


def _at_most(case: str, what: str, value: float, most: float) -> Line:
    return Line(
        case=case, what=what, value=f"{value:.2f}", target=f"at most {most:g}", met=value <= most
    )


def growth(by_size: dict[int, list[Measured]]) -> list[Line]:
    """How a question's time grows with the list, as an exponent; 0 is not at all."""
    small, large = min(by_size), max(by_size)
    if small == large:
        return []
    pairs = zip(by_size[small], by_size[large], strict=True)
    return [
        Line(
            case=f"growth from {small:,} to {large:,} images, {a.case.name}",
            what="exponent of the time over HTTP",
            value=f"{exponent:.2f}",
            target=f"at most {MOST_GROWTH:g}",
            met=exponent <= MOST_GROWTH,
        )
        for a, b in pairs
        for exponent in (math.log(b.ms / a.ms) / math.log(large / small),)
    ]


def plain(found: Sequence[Measured]) -> list[dict[str, Any]]:
    """For other programs."""
    return [
        {
            **msgspec.to_builtins(one.case),
            "http_ms": one.ms,
            "http_p95_ms": sorted(one.http)[int(len(one.http) * 0.95)] * 1000,
            "sql_ms": one.sql_ms,
            "rounds": len(one.http),
            "bytes": one.body,
        }
        for one in found
    ]
