"""However the ids of a page are come by, the page is the same; and its cost is not the list's."""

from __future__ import annotations

import itertools

import psycopg
import pytest
from psycopg import sql

from rows import Rows
from wharfinger.domain.inventory import ImageFilter, RegistryScope, Span
from wharfinger.store import reading
from wharfinger.store.database import within
from wharfinger.store.reading import Reading

SCOPE = RegistryScope(enterprise_projects=("0",))

# Constants that make a way be taken where it would not be, by the way's name.
WAYS = {
    "as usual": {},
    "walked": {"_SOON_GATHERED": -1},
    "one registry after the other": {"_SOON_GATHERED": -1, "_SMALL_PART": 2},
    "gathered": {"_SOON_GATHERED": 10**9},
    "little is near": {"_NEAR_LEAST": 1, "_NEAR_MOST": 1},
    "few tags are looked up": {"_MOST_TAGGED": 1},
}
QUESTIONS = [
    ({}, "abcdefgh"),
    ({"namespace": "team"}, "abcd"),
    ({"name_contains": "app"}, "abcdef"),
    ({"tag": "v1"}, "aceg"),
    ({"tag_contains": "2"}, "bdfh"),
    ({"tag_contains": "_"}, ""),
    ({"text": "web"}, "gh"),
    ({"text": "v1"}, "aceg"),
    ({"namespace": "team", "tag_contains": "v"}, "abcd"),
    ({"name_contains": "app", "tag": "v2"}, "bdf"),
    ({"text": "app", "tag_contains": "2"}, "bdf"),
    ({"size": 1000, "latest_only": True}, "bdfh"),
    ({"is_index": True}, ""),
    ({"updated": Span(start_ms=0)}, "abcdefgh"),
    ({"scope": RegistryScope(enterprise_projects=("0",), registry_name="other")}, "efgh"),
]


@pytest.fixture
def letters(owner_connection):
    """Eight images, by the ids that they have, as letters in the order of the ids."""
    owner_connection.execute("INSERT INTO project (id, name) VALUES ('mine', 'mine')")
    owner_connection.execute("INSERT INTO tenant_feed (project_id, seq) VALUES ('mine', 17)")
    rows = Rows("mine", owner_connection)
    places = [("swr", "team", "app"), ("swr", "team", "app-2"), ("other", "x", "my-app")]
    registries = {name: rows.registry(name) for name in ("swr", "other")}
    found = {}
    letter = iter("abcdefgh")
    for registry, namespace, name in [*places, ("other", "x", "web")]:
        repository = rows.repository(registries[registry], namespace, name)
        for tag in ("v1", "v2"):
            image = rows.image(registries[registry], repository, tag, latest=tag == "v2")
            found[image] = next(letter)
    return found


@pytest.mark.parametrize("way", WAYS)
async def test_every_way_leads_to_the_same_page(database, letters, monkeypatch, way):
    for name, value in WAYS[way].items():
        monkeypatch.setattr(reading, name, value)
    reader = Reading(database)
    ids = {letter: image for image, letter in letters.items()}

    for question, expected in QUESTIONS:
        wanted = ImageFilter(**({"scope": SCOPE} | question))
        for offset, descending in itertools.product((0, 1, 3), (False, True)):
            page = await reader.images(
                "mine", wanted, offset=offset, limit=2, descending=descending
            )
            order = expected[::-1] if descending else expected
            found = "".join(letters[image.id] for image in page.items)
            assert (found, page.total) == (order[offset : offset + 2], len(expected)), question
        after = await reader.images_after("mine", wanted, after_id=ids["c"], limit=2)
        later = [letter for letter in expected if letter > "c"]
        assert [letters[image.id] for image in after] == later[:2], question
        assert (await reader.facets("mine", wanted)).total == len(expected), question


def test_a_search_in_tags_goes_on_until_it_has_found_all(owner_connection, database_address):
    fill(owner_connection, "mine", 7000)
    fill(owner_connection, "theirs", 7000)
    owner_connection.execute("ANALYZE image")
    # Where most is looked at in the order of the ids, where a sample says that this makes no
    # sense, and where nothing was found at all.
    for part, most in (("tag", 5), ("tag", 6500), ("-6999", 5), ("nowhere", 5)):
        found = search(database_address.app, "mine", f"%{part}%", most)
        expected = owner_connection.execute(
            "SELECT id FROM image WHERE project_id = 'mine' AND tag LIKE %s ORDER BY id LIMIT %s",
            (f"%{part}%", most),
        ).fetchall()
        assert found == expected, (part, most)


def test_a_search_in_tags_finds_nothing_of_another_tenant(owner_connection, database_address):
    fill(owner_connection, "mine", 3)
    fill(owner_connection, "theirs", 3)

    assert len(search(database_address.app, "mine", "%tag%", 10)) == 3
    assert search(database_address.app, "theirs", "%tag%", 10, registries_of="mine") == []
    assert search(database_address.app, "", "%tag%", 10) == []


async def test_a_page_costs_the_same_wherever_it_lies_and_however_long_the_list(
    database, owner_connection
):
    owner_connection.autocommit = True
    questions = {
        "the first page": (ImageFilter(scope=SCOPE), 0),
        "the last page": (ImageFilter(scope=SCOPE), 9_000),
        "a rare part of a tag": (ImageFilter(scope=SCOPE, tag_contains="-9999"), 0),
    }
    fill(owner_connection, "mine", 10_000)
    owner_connection.execute("INSERT INTO tenant_feed (project_id, seq) VALUES ('mine', 1)")
    short = {}
    for name, (wanted, after_id) in questions.items():
        owner_connection.execute("VACUUM (ANALYZE) image, repository")
        short[name] = await blocks(database, wanted, after_id=after_id)
    owner_connection.execute(
        "INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id, size,"
        " updated_at) SELECT project_id, registry_id, repository_id, 'more-' || tag, digest, 'c',"
        " size, now() FROM image"
    )
    owner_connection.execute(
        "INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id, size,"
        " updated_at) SELECT project_id, registry_id, repository_id, 'yet-' || tag, digest, 'c',"
        " size, now() FROM image WHERE tag NOT LIKE '%-9999%'"
    )
    owner_connection.execute("VACUUM (ANALYZE) image, repository")

    for name, (wanted, after_id) in questions.items():
        long = await blocks(database, wanted, after_id=after_id)
        assert long <= 1.5 * short[name], f"{name} costs more in a list of four times the length"
    assert short["the last page"] <= 1.5 * short["the first page"]


def fill(connection: psycopg.Connection, project: str, images: int) -> None:
    """One repository with so many tags, written at once."""
    connection.execute("INSERT INTO project (id, name) VALUES (%s, %s)", (project, project))
    rows = Rows(project, connection)
    registry = rows.registry(project)
    repository = rows.repository(registry, live_images=images)
    connection.execute(
        "INSERT INTO image (project_id, registry_id, repository_id, tag, digest, image_id, size,"
        " updated_at) SELECT %s, %s, %s, 'tag-' || n, 'sha256:' || md5(n::text), 'c', n, now()"
        " FROM generate_series(1, %s) n",
        (project, registry, repository, images),
    )


def search(app: str, project: str, pattern: str, most: int, *, registries_of: str = ""):
    with psycopg.connect(app, options="-c search_path=wharfinger,public") as connection:
        tenant = sql.SQL("SELECT set_config('wharfinger.tenant', {}, true)")
        connection.execute(tenant.format(registries_of or project))
        registries = [row[0] for row in connection.execute("SELECT id FROM registry").fetchall()]
        connection.execute(tenant.format(project))
        return connection.execute(
            "SELECT * FROM search_tags(%s, %s, false, 0, %s)", (pattern, registries, most)
        ).fetchall()


async def blocks(database, wanted: ImageFilter, *, offset: int = 0, after_id: int | None = None):
    """How many blocks of the tables and indexes the statements of a page look at."""
    looked_at = []
    async with database.tenant("mine") as connection:
        ask = within(connection)

        async def explaining(queries, values):
            for query in queries:
                explain = sql.SQL("EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) {}").format(query)
                ((plan,),) = (await ask((explain,), values))[0]
                root = plan[0]["Plan"]
                looked_at.append(root["Shared Hit Blocks"] + root["Shared Read Blocks"])
            return await ask(queries, values)

        worth = await Reading(database)._worth(ask, "mine", wanted.scope)
        turn = reading._Turn(limit=10, offset=offset, after_id=after_id)
        await reading._page(explaining, "mine", wanted, turn, worth)
    return sum(looked_at)
