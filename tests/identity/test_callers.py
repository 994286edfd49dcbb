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


async def test_a_key_that_is_revoked_or_unknown_is_not_found(callers):
    await callers.create_project("one", "p1")
    credential = await callers.create_credential("p1")
    await callers.revoke_credential("p1", credential.access_key)

    assert await callers.find_credential(credential.access_key) is None
    assert await callers.find_credential("AKNOBODY") is None
    with pytest.raises(NotFoundError):
        await callers.revoke_credential("p1", credential.access_key)


async def test_a_token_that_was_taken_back_is_told_from_one_that_never_was(callers):
    await callers.create_project("one", "p1")
    token = await callers.create_token("p1", dt.timedelta(hours=1))

    await callers.revoke_token(token, await callers.find_token(token))

    assert (await callers.find_token(token)).revoked
    assert await callers.find_token("never") is None


async def test_an_old_key_goes_on_beside_the_new_one_for_a_while(callers, owner_connection):
    await callers.create_project("one", "p1")
    old = await callers.create_credential("p1")

    new = await callers.rotate_credential("p1", old.access_key, dt.timedelta(hours=2))

    found = await callers.find_credential(old.access_key)
    left = found.expires_at - dt.datetime.now(dt.UTC)
    assert dt.timedelta(minutes=119) < left <= dt.timedelta(hours=2)
    assert (await callers.find_credential(new.access_key)).expires_at is None
    listed = await callers.list_credentials("p1")
    assert [one.access_key for one in listed] == [old.access_key, new.access_key]


async def test_a_rotation_never_makes_a_key_live_longer(callers):
    await callers.create_project("one", "p1")
    old = await callers.create_credential("p1", life=dt.timedelta(minutes=5))

    await callers.rotate_credential("p1", old.access_key, dt.timedelta(days=1))

    assert (await callers.find_credential(old.access_key)).expires_at == old.expires_at


async def test_only_a_key_that_works_is_rotated(callers):
    await callers.create_project("one", "p1")
    await callers.create_project("two", "p2")
    old = await callers.create_credential("p1")
    await callers.rotate_credential("p1", old.access_key, dt.timedelta(0))

    for project in ("p1", "p2"):
        with pytest.raises(NotFoundError):
            await callers.rotate_credential(project, old.access_key, dt.timedelta(hours=1))


async def test_a_project_may_join_an_account(callers):
    await callers.create_project("cn-north-4", "acme")
    await callers.create_project("eu-west-101", "acme-eu", account_id="acme")

    assert [p.id for p in await callers.projects_of("acme", None)] == ["acme", "acme-eu"]
    assert (await callers.find_project("acme-eu")).account_id == "acme"
    with pytest.raises(ConflictError, match="has a project 'cn-north-4'"):
        await callers.create_project("cn-north-4", account_id="acme")
    for nobody in ("acme-eu", "nowhere"):
        with pytest.raises(NotFoundError, match="no account"):
            await callers.create_project("third", account_id=nobody)


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
