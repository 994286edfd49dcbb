from __future__ import annotations

from wharfinger.store.migrate import migrate


def test_a_second_migration_finds_nothing_to_do(empty_database_address):
    first = migrate(empty_database_address.owner)
    second = migrate(empty_database_address.owner)

    assert first[0] == "procrastinate"
    assert "0001_pre_foundation" in first
    assert second == []


async def test_db(database):
    async with database.tenant("p") as c:
        await c.execute("insert into project(id,name) values ('p','p')")


def test_own(owner_connection):
    assert owner_connection.execute("select count(*) from image").fetchone() == (0,)
