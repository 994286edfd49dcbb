"""Credentials and tokens as they are made, kept and found again."""

import datetime as dt
import re

import pytest

from wharfinger.domain.errors import ConflictError, InvalidParameterError, NotFoundError
from wharfinger.store.callers import Callers
from wharfinger.store.sealing import Sealer


@pytest.fixture
def callers(database, tmp_path):
    return Callers(database, Sealer.from_file(tmp_path / "secret.key"))


async def test_a_project_is_made_once(callers):
    made = await callers.create_project("cn-north-4", "p1")
    with pytest.raises(ConflictError, match="'p1' exists"):
        await callers.create_project("another", "p1")
    unnamed = await callers.create_project("second")

    assert re.fullmatch("[0-9a-f]{32}", unnamed.id)
    assert [one.id for one in await callers.list_projects()] == [made.id, unnamed.id]


async def test_a_project_has_a_feed_that_starts_at_nought(callers, owner_connection):
    await callers.create_project("one", "p1")

    assert owner_connection.execute("SELECT project_id, seq FROM tenant_feed").fetchall() == [
        ("p1", 0)
    ]


@pytest.mark.parametrize(
    ("name", "project_id", "parameter"),
    [
        ("", None, "name"),
        ("x" * 65, None, "name"),
        ("one", "", "id"),
        ("one", "a/b", "id"),
        ("one", "..", "id"),
        ("one", "x" * 257, "id"),
    ],
)
async def test_a_project_that_no_path_could_name_is_refused(callers, name, project_id, parameter):
    with pytest.raises(InvalidParameterError) as refused:
        await callers.create_project(name, project_id)

    assert refused.value.parameter == parameter


async def test_a_credential_is_found_again_with_its_secret(callers):
    await callers.create_project("one", "p1")

    made = await callers.create_credential("p1")
    known = await callers.find_credential(made.access_key)

    assert re.fullmatch("[A-Z0-9]{20}", made.access_key)
    assert len(made.secret_key) == 40
    assert (known.project_id, known.project_name) == ("p1", "one")
    assert known.secret_key == made.secret_key
    assert made.secret_key not in repr(made) + repr(known)


async def test_no_secret_lies_open_in_the_database(callers, owner_connection):
    await callers.create_project("one", "p1")
    credential = await callers.create_credential("p1")
    token = await callers.create_token("p1", dt.timedelta(hours=1))

    stored = owner_connection.execute(
        "SELECT string_agg(encode(secret_sealed, 'escape'), '') FROM credential"
        " UNION ALL SELECT string_agg(encode(digest, 'escape'), '') FROM token"
    ).fetchall()

    assert credential.secret_key not in str(stored)
    assert token not in str(stored)


async def test_what_is_revoked_or_unknown_is_not_found(callers, owner_connection):
    await callers.create_project("one", "p1")
    credential = await callers.create_credential("p1")
    token = await callers.create_token("p1", dt.timedelta(hours=1))
    owner_connection.execute("UPDATE credential SET revoked_at = now()")
    owner_connection.execute("UPDATE token SET revoked_at = now()")

    assert await callers.find_credential(credential.access_key) is None
    assert await callers.find_credential("AKNOBODY") is None
    assert await callers.find_token(token) is None


async def test_a_token_lives_as_long_as_asked(callers):
    await callers.create_project("one", "p1")

    token = await callers.create_token("p1", dt.timedelta(hours=2))
    known = await callers.find_token(token)

    left = known.expires_at - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=119) < left <= dt.timedelta(hours=2)
    with pytest.raises(InvalidParameterError):
        await callers.create_token("p1", dt.timedelta(0))


async def test_nothing_is_made_for_a_project_that_is_not_there(callers):
    with pytest.raises(NotFoundError, match="no project 'p9'"):
        await callers.create_credential("p9")
    with pytest.raises(NotFoundError, match="no project 'p9'"):
        await callers.create_token("p9", dt.timedelta(hours=1))
