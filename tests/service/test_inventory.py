"""What the stored list answers, asked of the service over a real database."""

import datetime as dt

import pytest
from psycopg import sql

from rows import AT, AT_MS, Rows
from wharfinger.domain.errors import NotGrantedError
from wharfinger.domain.inventory import ImageFilter, RegistryFilter, RegistryScope, Span
from wharfinger.domain.model import Caller, VerdictState
from wharfinger.service.inventory import Inventory
from wharfinger.store import reading
from wharfinger.store.reading import Reading

EVERYTHING = RegistryScope(enterprise_projects=("0",))


@pytest.fixture
def inventory(database):
    return Inventory(Reading(database))


@pytest.fixture
def rows(owner_connection):
    return project(owner_connection, "mine")


def project(connection, name):
    connection.execute("INSERT INTO project (id, name) VALUES (%s, %s)", (name, name))
    connection.execute("INSERT INTO tenant_feed (project_id, seq) VALUES (%s, 17)", (name,))
    return Rows(name, connection)


def caller(project_id="mine"):
    return Caller(project_id=project_id, project_name=project_id, principal="test")


def wanted(scope=EVERYTHING, **questions):
    return ImageFilter(scope=scope, **questions)


async def found(inventory, question=None, **window):
    page = await inventory.images(
        caller(), question or wanted(), **({"offset": 0, "limit": 200} | window)
    )
    return page.total, [image.tag for image in page.items]


async def test_without_a_registry_nothing_was_ever_listed(inventory, rows):
    page = await inventory.images(caller(), wanted(), offset=0, limit=10)

    assert (page.total, page.items, page.as_of) == (0, (), 17)
    assert page.verdict is VerdictState.NEVER


@pytest.mark.parametrize(
    ("verdicts", "together"),
    [
        (("complete", "complete"), VerdictState.COMPLETE),
        (("never", "never"), VerdictState.NEVER),
        (("complete", "never"), VerdictState.PARTIAL),
        (("complete", "partial"), VerdictState.PARTIAL),
    ],
)
async def test_the_list_is_worth_what_its_registries_are(inventory, rows, verdicts, together):
    for name, verdict in zip("ab", verdicts, strict=True):
        rows.registry(name, verdict=verdict)

    page = await inventory.images(caller(), wanted(), offset=0, limit=10)

    assert page.verdict is together


async def test_each_filter_finds_what_it_says_and_counts_it(inventory, rows):
    swr, other = rows.registry("swr"), rows.registry("plain", "Other")
    app = rows.repository(swr, "team", "app")
    deep = rows.repository(swr, "team", "deep/App_x-p-x")
    else_ = rows.repository(other, "elsewhere", "shop-x")
    rows.image(swr, app, "old", size=1, updated_at=AT - dt.timedelta(days=1))
    rows.image(swr, app, "new", latest=True)
    rows.image(swr, deep, "index", is_index=True, latest=True)
    rows.image(other, else_, "tool", latest=True)

    async def ask(**questions):
        return await found(inventory, wanted(**questions))

    in_swr = RegistryScope(enterprise_projects=("0",), registry_name="swr")
    plain = RegistryScope(enterprise_projects=("0",), kinds=("Other",))
    day = 24 * 3600 * 1000

    assert await ask() == (4, ["old", "new", "index", "tool"])
    assert await ask(scope=in_swr) == (3, ["old", "new", "index"])
    assert await ask(scope=plain) == (1, ["tool"])
    assert await ask(namespace="team") == (3, ["old", "new", "index"])
    assert await ask(namespace="tea") == (0, [])
    assert await ask(name_contains="APP") == (3, ["old", "new", "index"])
    assert await ask(name_contains="P_X") == (1, ["index"])
    assert await ask(name_contains="%") == (0, [])
    assert await ask(tag="new") == (1, ["new"])
    assert await ask(tag="ne") == (0, [])
    assert await ask(size=1) == (1, ["old"])
    assert await ask(is_index=True) == (1, ["index"])
    assert await ask(is_index=False) == (3, ["old", "new", "tool"])
    assert await ask(latest_only=True) == (3, ["new", "index", "tool"])
    assert await ask(updated=Span(end_ms=AT_MS - day)) == (1, ["old"])
    assert await ask(updated=Span(start_ms=AT_MS - day + 1)) == (3, ["new", "index", "tool"])
    assert await ask(updated=Span(start_ms=AT_MS, end_ms=AT_MS), namespace="team") == (
        2,
        ["new", "index"],
    )


async def test_pages_follow_each_other_in_either_direction(inventory, rows):
    registry = rows.registry()
    repository = rows.repository(registry)
    tags = [f"v{number}" for number in range(7)]
    for tag in tags:
        rows.image(registry, repository, tag)

    forwards = [await found(inventory, offset=offset, limit=3) for offset in (0, 3, 6, 9)]
    backwards = await found(inventory, offset=1, limit=3, descending=True)

    assert forwards == [(7, tags[:3]), (7, tags[3:6]), (7, tags[6:]), (7, [])]
    assert backwards == (7, ["v5", "v4", "v3"])


async def test_retired_rows_are_gone_and_held_rows_stay(inventory, rows):
    registry = rows.registry()
    repository = rows.repository(registry)
    rows.image(registry, repository, "held", held_at=AT)
    rows.image(registry, repository, "retired", retired_at=AT)

    assert await found(inventory) == (1, ["held"])
    assert await found(inventory, wanted(is_index=False)) == (1, ["held"])


async def test_what_is_no_container_image_is_kept_out(inventory, rows):
    registry = rows.registry()
    repository = rows.repository(registry)
    rows.image(registry, repository, "app")
    rows.image(registry, repository, "sig", artifact_type="application/vnd.dev.cosign")

    assert await found(inventory) == (1, ["app"])
    assert await found(inventory, wanted(is_index=False)) == (1, ["app"])


async def test_images_of_a_removed_registry_are_not_listed(inventory, rows):
    registry = rows.registry(removed_at=AT)
    rows.image(registry, rows.repository(registry))

    assert await found(inventory) == (0, [])


async def test_totals_are_exact_whichever_way_they_are_taken(inventory, rows):
    registry = rows.registry()
    for name in ("a", "b"):
        repository = rows.repository(registry, "team", name)
        for tag in ("v1", "v2", None):
            rows.image(registry, repository, tag)

    summed, _ = await found(inventory, wanted(namespace="team"))
    counted, tags = await found(inventory, wanted(namespace="team", is_index=False))

    assert summed == counted == 6
    assert tags.count(None) == 2


async def test_a_row_was_right_when_it_was_read_or_confirmed(inventory, rows):
    confirmed = AT + dt.timedelta(hours=2)
    registry = rows.registry(verdict="partial", confirmed_at=confirmed)
    complete = rows.repository(registry, name="complete", listed_at=AT)
    failed = rows.repository(registry, name="failed", listed_at=AT, verdict="partial")
    rows.image(registry, complete, "complete")
    rows.image(registry, failed, "failed")
    two_hours = 2 * 3600 * 1000

    page = await inventory.images(caller(), wanted(), offset=0, limit=10)
    later = await found(inventory, wanted(synced=Span(start_ms=AT_MS + 1)))

    assert {image.tag: image.synced_ms - AT_MS for image in page.items} == {
        "complete": two_hours,
        "failed": 0,
    }
    assert later == (1, ["complete"])


async def test_enterprise_projects_bound_what_is_seen(inventory, rows):
    for enterprise_project in ("0", "other"):
        registry = rows.registry(enterprise_project, enterprise_project_id=enterprise_project)
        rows.image(registry, rows.repository(registry), enterprise_project)

    both = RegistryScope(enterprise_projects=("0", "other"))

    assert await found(inventory) == (1, ["0"])
    assert await found(inventory, wanted(both)) == (2, ["0", "other"])


def test_an_enterprise_project_is_granted_or_refused():
    assert caller().granted("0") == ("0",)
    assert caller().granted("all_granted_eps") == ("0",)
    with pytest.raises(NotGrantedError, match="'other' is not granted"):
        caller().granted("other")
    with pytest.raises(NotGrantedError, match="none is granted"):
        Caller(project_id="p", project_name="p", principal="x", enterprise_projects=()).granted(
            "all_granted_eps"
        )


@pytest.fixture
def theirs(owner_connection):
    others = project(owner_connection, "theirs")
    registry = others.registry("swr")
    others.image(registry, others.repository(registry), "theirs", is_index=True)
    return others


async def test_nothing_of_another_tenant_shows(inventory, rows, theirs):
    registry = rows.registry()
    rows.image(registry, rows.repository(registry), "mine")
    registries = await inventory.registries(
        caller(), RegistryFilter(scope=EVERYTHING), offset=0, limit=200
    )

    assert await found(inventory) == (1, ["mine"])
    assert await found(inventory, wanted(name_contains="app")) == (1, ["mine"])
    assert await found(inventory, wanted(tag="theirs")) == (0, [])
    assert [one.id for one in registries.items] == [str(registry)]
    assert (await inventory.count_images(caller(), EVERYTHING)).total == 1


async def test_row_level_security_holds_where_a_query_forgets_the_tenant(
    inventory, rows, theirs, monkeypatch
):
    registry = rows.registry()
    rows.image(registry, rows.repository(registry), "mine", is_index=True)
    forgetful = sql.SQL("true")
    monkeypatch.setattr(reading, "IMAGE_TENANT", forgetful)
    monkeypatch.setattr(reading, "REPOSITORY_TENANT", forgetful)
    inventory._reader._queries = {
        name: text.replace("project_id = %(project_id)s", "project_id IS NOT NULL")
        for name, text in inventory._reader._queries.items()
    }

    registries = await inventory.registries(
        caller(), RegistryFilter(scope=EVERYTHING), offset=0, limit=200
    )

    assert await found(inventory) == (1, ["mine"])
    assert await found(inventory, wanted(namespace="team")) == (1, ["mine"])
    assert await found(inventory, wanted(is_index=True)) == (1, ["mine"])
    assert [one.id for one in registries.items] == [str(registry)]


async def test_the_application_cannot_read_without_a_tenant(database, rows):
    rows.registry()

    async with database.system() as connection:
        cursor = await connection.execute("SELECT count(*) FROM registry")
        assert await cursor.fetchone() == (0,)


@pytest.mark.parametrize(
    ("columns", "status"),
    [
        ({"verdict": "complete"}, "success"),
        ({"verdict": "never"}, "accessing"),
        ({"verdict": "never", "verdict_reasons": '[{"code":"unauthorised"}]'}, "fail"),
        ({"verdict": "partial", "verdict_reasons": '[{"code":"unreachable"}]'}, "fail"),
        (
            {"verdict": "partial", "verdict_reasons": '[{"code":"missing","repository":"a/b"}]'},
            "success",
        ),
    ],
)
async def test_a_registry_succeeds_when_it_could_be_read_at_all(inventory, rows, columns, status):
    rows.registry(**columns)

    question = RegistryFilter(scope=EVERYTHING, status=status)
    page = await inventory.registries(caller(), question, offset=0, limit=10)

    assert [one.status for one in page.items] == [status]


@pytest.mark.parametrize(
    ("questions", "names"),
    [
        ({}, ["one", "two"]),
        ({"address": "10.0.0.1:5000"}, ["one"]),
        ({"address": "http://10.0.0.1:5000/"}, ["one"]),
        ({"address": "10.0.0.1"}, []),
        ({"registry_id": "not an id"}, []),
    ],
)
async def test_registries_are_found_by_address_and_id(inventory, rows, questions, names):
    rows.registry("one", "Other", address="http://10.0.0.1:5000")
    rows.registry("two", "Other", address="https://elsewhere")

    question = RegistryFilter(scope=EVERYTHING, **questions)
    page = await inventory.registries(caller(), question, offset=0, limit=10)

    assert (page.total, [one.name for one in page.items]) == (len(names), names)
