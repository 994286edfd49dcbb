"""Plots and the tables beside them: the same figures, from the counts that runs keep."""

from __future__ import annotations

import datetime as dt
import re
import uuid
import xml.etree.ElementTree as ET
from html.parser import HTMLParser

import pytest
from visitor import Visitor

from wharfinger.store.named_sql import queries

NOW = dt.datetime.now(dt.UTC)
SVG = "{http://www.w3.org/2000/svg}"
PICTURES = ("growth", "share", "changes", "durations")


class Tables(HTMLParser):
    """The tables of a page by their captions; each a list of rows of cells."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: dict[str, list[list[str]]] = {}
        self._caption: str | None = None
        self._rows: list[list[str]] = []
        self._in = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        if tag == "table":
            self._rows = []
        elif tag == "tr":
            self._rows.append([])
        elif tag in ("th", "td"):
            self._rows[-1].append("")
        self._in = tag

    def handle_data(self, data):
        if self._in == "caption":
            self.found[data] = self._rows
        elif self._in in ("th", "td") and self._rows and self._rows[-1]:
            self._rows[-1][-1] += data

    def handle_endtag(self, tag):
        self._in = ""


def table(answer, caption) -> list[list[str]]:
    tables = Tables(answer.text).found
    assert caption in tables, list(tables)
    return tables[caption]


def by_day(answer) -> dict[str, str]:
    """How many images were added, by day."""
    return {row[0]: row[1] for row in table(answer, "Changes by day")}


def picture(visitor, name, question="") -> ET.Element:
    answer = visitor.get(f"/console/plots/{name}.svg{question}")
    assert (answer.status, answer.headers["Content-Type"]) == (200, "image/svg+xml"), answer.text
    return ET.fromstring(answer.body)


def bars(svg) -> int:
    """How many bars are to be seen."""
    found = [r for r in svg.iter(f"{SVG}rect") if "rect" in r.get("class", "").split()]
    return sum(float(r.get("width")) > 0 < float(r.get("height")) for r in found)


def words(svg) -> set[str]:
    return {node.text.strip() for node in svg.iter(f"{SVG}text") if node.text}


def run(tenant, registry, *, days_ago=0, seconds=10, outcome="complete", **counts) -> None:
    ended = NOW - dt.timedelta(days=days_ago)
    began = ended - dt.timedelta(seconds=seconds)
    given = {
        "id": str(uuid.uuid4()),
        "project_id": tenant.id,
        "registry_id": str(registry),
        "state": "finished",
        "outcome": outcome,
        "queued_at": began,
        "started_at": began,
        "finished_at": ended,
    }
    tenant._insert("run", given | counts)


def the_day(days_ago) -> str:
    return f"{(NOW - dt.timedelta(days=days_ago)).date()}"


@pytest.fixture
def depot(tenant):
    return tenant.registry("depot", "Other")


# --- changes by day -------------------------------------------------------------------------------


def test_changes_are_added_up_by_the_day_on_which_the_runs_ended(visitor, tenant, depot):
    other = tenant.registry("other", "Other")
    run(tenant, depot, days_ago=2, added=30, moved=2)
    run(tenant, depot, days_ago=2, added=1, retired=4)
    run(tenant, other, days_ago=2, restored=5)
    run(tenant, other, days_ago=0, moved=7)
    run(tenant, other, days_ago=40, added=1000)

    head, *rows = table(visitor.get("/console"), "Changes by day")

    assert head == ["Day", "Added", "Moved", "Retired", "Restored"]
    assert len(rows) == 30
    assert [row for row in rows if row[1:] != ["0", "0", "0", "0"]] == [
        [the_day(0), "0", "7", "0", "0"],
        [the_day(2), "31", "2", "4", "5"],
    ]


def test_a_day_is_that_of_the_viewers_clock(visitor, tenant, depot):
    # Between these two zones there always is midnight.
    run(tenant, depot, added=3)
    days = []
    for zone in ("Pacific/Kiritimati", "Pacific/Pago_Pago"):
        visitor.submit(
            visitor.get("/console/look"), "/look", language="en", theme="light", zone=zone
        )
        rows = table(visitor.get("/console/changes"), "Changes by day")
        days += [row[0] for row in rows if row[1] == "3"]

    assert len(days) == 2
    assert days[0] > days[1]


def test_the_page_of_changes_draws_the_registry_that_is_asked_for(visitor, tenant, depot):
    other = tenant.registry("other", "Other")
    run(tenant, depot, added=11)
    run(tenant, other, added=22)

    answer = visitor.get(f"/console/changes?registry_id={depot}")

    assert by_day(answer)[the_day(0)] == "11"
    (address,) = [path for path in answer.page.pictures if "changes.svg" in path]
    assert f"registry_id={depot}" in address
    both = picture(visitor, "changes")
    one = picture(visitor, "changes", f"?registry_id={depot}")
    assert bars(one) == bars(both) > 0
    # The scale goes as far as the figures do.
    assert "20" in words(both) - words(one)


# --- how long syncs took --------------------------------------------------------------------------


def test_a_registry_shows_how_long_its_last_syncs_took_and_what_became_of_them(
    visitor, tenant, depot
):
    run(tenant, depot, days_ago=3, seconds=12)
    run(tenant, depot, days_ago=2, seconds=1.5, outcome="failed")
    run(tenant, depot, days_ago=1, seconds=40, outcome="held")
    run(tenant, depot, days_ago=0, seconds=999, kind="hint")

    shown = table(visitor.get(f"/console/registries/{depot}"), "How long syncs took, in seconds")

    assert shown[0] == ["Begun", "ended: complete", "ended: complete, with images held", "failed"]
    assert [row[1:] for row in shown[1:]] == [["", "40.0", ""], ["", "", "1.5"], ["12.0", "", ""]]
    assert bars(picture(visitor, "durations", f"?registry_id={depot}")) == 3


def test_runs_show_the_last_sync_of_each_registry_the_slowest_first(visitor, tenant, depot):
    other = tenant.registry("other", "Other")
    tenant.registry("never-read", "Other")
    run(tenant, depot, days_ago=2, seconds=500)
    run(tenant, depot, days_ago=1, seconds=3)
    run(tenant, other, days_ago=9, seconds=60, outcome="partial")

    answer = visitor.get("/console/runs")

    title = "How long each registry's last sync took, in seconds"
    assert table(answer, title)[1:] == [
        ["other", "60.0", "ended: partial"],
        ["depot", "3.0", "ended: complete"],
    ]
    assert "The slowest is other." in answer.text
    of_one = visitor.get(f"/console/runs?registry_id={depot}")
    assert [row[1] for row in table(of_one, "How long syncs took, in seconds")[1:]] == [
        "3.0",
        "500.0",
    ]


def test_who_may_not_list_runs_sees_none_of_their_figures(house, tenant, add_user, depot):
    run(tenant, depot, seconds=77, added=88)
    reader = Visitor(house.port)
    allowed = {"Effect": "Allow", "Action": ["hss:imageRegistries:list"]}
    reader.sign_in(add_user("reader", allowed))

    pages = [reader.get("/console"), reader.get(f"/console/registries/{depot}")]

    assert not any(re.search("durations.svg|changes.svg|>77.0<", page.text) for page in pages)
    assert reader.get("/console/plots/durations.svg").status == 403
    assert reader.get("/console/plots/changes.svg").status == 403


# --- share ----------------------------------------------------------------------------------------


def test_the_largest_registries_are_named_and_the_rest_is_one(visitor, tenant):
    for n in range(13):
        tenant.registry(f"registry-{n:02}", "Other", live_images=1000 + n)

    answer = visitor.get("/console")

    rows = table(answer, "Images by registry")[1:]
    assert [row[0] for row in rows] == [f"registry-{n:02}" for n in range(12, 2, -1)] + ["3 others"]
    assert rows[0][1:] == ["1,012", "7.7%"]
    assert rows[-1][1:] == ["3,003", "23.0%"]
    assert bars(picture(visitor, "share")) == 11


# --- all of them ----------------------------------------------------------------------------------


@pytest.fixture
def lively(tenant, depot):
    """A registry with something to see in every plot."""
    tenant.sql.execute("UPDATE registry SET live_images = 31 WHERE id = %s", (depot,))
    for days_ago in (3, 1):
        run(tenant, depot, days_ago=days_ago, added=30, moved=1, retired=2, live_at_start=9)
    return depot


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_runs_nothing_and_loads_nothing(visitor, lively, name):
    svg = visitor.get(f"/console/plots/{name}.svg")

    assert not re.search(rb"<script|javascript:|\son\w+=|@import|url\((?!#)", svg.body)
    addresses = re.findall(rb"https?://[^\"' )<]+", svg.body)
    assert all(address.startswith(b"http://www.w3.org/") for address in addresses)
    assert len(svg.body) < 30_000
    assert svg.body == visitor.get(f"/console/plots/{name}.svg").body


@pytest.mark.parametrize("name", PICTURES)
def test_a_picture_is_drawn_for_light_and_dark_and_for_narrow_windows(visitor, lively, name):
    light, dark = (picture(visitor, name, f"?theme={theme}") for theme in ("light", "dark"))
    narrow = picture(visitor, name, "?size=narrow")

    styles = [svg.find(f".//{SVG}style").text for svg in (light, dark)]
    assert "#1b2733" in styles[0]
    assert "#1b2733" not in styles[1]
    width = float(light.get("viewBox").split()[2])
    assert float(narrow.get("viewBox").split()[2]) < 390 < width


def test_every_plot_has_words_for_those_who_do_not_see_it(house, tenant, lively):
    visitor = Visitor(house.port, language="zh-CN")
    visitor.sign_in(tenant.token)

    overview = visitor.get("/console")

    described = re.findall(r'<img class="plot"[^>]* alt="([^"]+)"', overview.text)
    assert len(described) == 3
    assert all(re.search("[\u4e00-\u9fff]", text) for text in described)
    assert "新增 60 个镜像" in described[1]
    assert {"新增", "移动", "下线", "恢复"} <= words(picture(visitor, "changes"))


@pytest.mark.parametrize("name", PICTURES)
def test_without_any_figure_a_picture_says_so_in_the_viewers_language(house, tenant, name):
    visitor = Visitor(house.port, language="zh-CN")
    visitor.sign_in(tenant.token)

    told = words(picture(visitor, name, f"?registry_id={uuid.uuid4()}"))

    assert not any("No data" in text for text in told)


def test_what_is_no_registry_is_refused_by_name(visitor):
    for name in ("changes", "durations"):
        answer = visitor.get(f"/console/plots/{name}.svg?registry_id=nonsense")
        assert answer.status == 400
        assert "registry_id" in answer.text


def test_nothing_of_others_is_counted(house, tenant, depot, visitor, add_user):
    stranger = house.tenant()
    theirs = stranger.registry("theirs", "Other", live_images=5000)
    run(stranger, theirs, added=4000, seconds=4000)
    marshes = str(uuid.uuid4())
    house.run(_enterprise_project(house, tenant, marshes))
    hidden = tenant.registry("hidden", "Other", enterprise_project_id=marshes, live_images=6000)
    run(tenant, hidden, added=6000, seconds=6000)
    run(tenant, depot, added=1, seconds=1)
    bob = Visitor(house.port)
    bob.sign_in(add_user("bob", {"Effect": "Allow", "Action": ["*:*:*"]}, every=False))

    pages = [
        page
        for registry in ("", f"?registry_id={hidden}", f"?registry_id={theirs}")
        for page in (
            bob.get("/console"),
            bob.get(f"/console/changes{registry}"),
            bob.get(f"/console/runs{registry}"),
        )
    ]

    assert {page.status for page in pages} == {200}
    for page in pages:
        assert not re.search(r"[456],?000\b(?!\d)", re.sub("<option.*?</option>", "", page.text))
    # Whoever may see it, does.
    assert by_day(visitor.get("/console"))[the_day(0)] == "6,001"


async def _enterprise_project(house, tenant, number):
    async with house.database.tenant(tenant.id) as tx:
        await tx.execute(
            "INSERT INTO enterprise_project (id, project_id, name) VALUES (%s, %s, 'marshes')",
            (number, tenant.id),
        )


# --- how much is read for it ----------------------------------------------------------------------


def scanned(plan) -> set[tuple[str, str]]:
    """Which tables a plan reads, and how."""
    found = {(plan["Relation Name"], plan["Node Type"])} if "Relation Name" in plan else set()
    return found.union(*(scanned(part) for part in plan.get("Plans", ())))


@pytest.mark.parametrize("name", ["days", "changes_by_day", "took", "slowest"])
def test_runs_alone_are_read_and_by_their_index(house, tenant, depot, name):
    tenant.sql.execute(
        "INSERT INTO run (project_id, registry_id, state, outcome, queued_at, started_at,"
        " finished_at) SELECT %s, %s, 'finished', 'complete', at, at, at"
        " FROM (SELECT now() - n * interval '1 hour' AS at FROM generate_series(1, 9000) n) t",
        (tenant.id, depot),
    )
    tenant.sql.execute("ANALYZE run")
    values = {
        "project": tenant.id,
        "enterprise_projects": ["0"],
        "days": 30,
        "zone": "UTC",
        "registry": str(depot),
        "limit": 30,
    }

    plan = house.run(_plan(house, tenant, queries("overview")[name], values))

    reads = scanned(plan)
    assert {table for table, _ in reads} == {"registry", "run"}
    assert {how for table, how in reads if table == "run"} <= {"Index Scan", "Bitmap Heap Scan"}
    # A page's worth of blocks, however many runs there ever were.
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 150


async def _plan(house, tenant, statement, values) -> dict:
    async with house.database.tenant(tenant.id) as tx:
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {statement}"
        ((found,),) = await (await tx.execute(explain, values)).fetchall()
    return found[0]["Plan"]


def test_a_first_sync_does_not_hide_the_days_after_it(visitor, tenant, depot):
    run(tenant, depot, days_ago=4, added=90_000)
    for days_ago in range(4):
        run(tenant, depot, days_ago=days_ago, added=20, retired=10)

    answer = visitor.get("/console/changes")

    assert by_day(answer)[the_day(4)] == "90,000"
    assert f"so that the other days can be seen: {the_day(4)}: 90,000." in answer.page.text
    heights = [
        float(rect.get("height"))
        for rect in picture(visitor, "changes").iter(f"{SVG}rect")
        if "rect" in rect.get("class", "").split() and float(rect.get("height")) > 0
    ]
    assert len(heights) == 1 + 4 * 2
    assert max(heights) < 10 * min(heights)


def test_days_that_are_alike_are_drawn_as_they_are(visitor, tenant, depot):
    for days_ago, added in enumerate((500, 40, 60, 300)):
        run(tenant, depot, days_ago=days_ago, added=added)

    assert "so that the other days can be seen" not in visitor.get("/console/changes").text
