"""Replacing the key that seals, while others go on working."""

import pytest

from wharfinger.domain.errors import SetupError
from wharfinger.domain.model import Caller, RegistryCredential
from wharfinger.store import registries
from wharfinger.store.callers import Callers
from wharfinger.store.registries import NewRegistry
from wharfinger.store.resealing import Resealing
from wharfinger.store.sealing import Sealer


@pytest.fixture
def path(tmp_path):
    return tmp_path / "secret.key"


@pytest.fixture
async def secrets(database, path):
    """Two projects with a key and a registry each."""
    callers = Callers(database, Sealer.from_file(path))
    made = {}
    for project in ("p1", "p2"):
        await callers.create_project(project, project)
        made[project] = await callers.create_credential(project)
        async with database.tenant(project) as tx:
            await registries.add_registry(
                tx,
                project,
                NewRegistry(name="swr", kind="SwrPrivate", address="https://swr.example"),
                RegistryCredential(kind="access_key", identity="AK", secret=f"of {project}"),
                seals=Sealer.from_file(path),
            )
    return made


async def opened(database, sealer, made):
    """Every stored secret, opened."""
    callers = Callers(database, sealer)
    found = []
    for project, key in made.items():
        found.append((await callers.find_credential(key.access_key)).secret_key == key.secret_key)
        async with database.tenant(project) as tx:
            caller = Caller(project_id=project, project_name=project, principal="test")
            (registry,) = await registries.select_registries(tx, caller)
            _, credential = await registries.open_registry(tx, project, registry[0], seals=sealer)
        found.append(credential.secret == f"of {project}")
    return found


async def rotate(database, path, **options):
    sealer = Sealer.from_file(path)
    return await Resealing(database, Callers(database, sealer), sealer).rotate(**options)


async def test_every_secret_comes_under_the_new_key(database, path, secrets, owner_connection):
    assert await rotate(database, path, drop_old=True) == 4

    newest = path.read_text().split()[0]
    stored = owner_connection.execute(
        "SELECT secret_sealed FROM credential UNION ALL SELECT credential_sealed FROM registry"
    ).fetchall()
    assert {row[0][1:5].hex() for row in stored} == {newest}
    assert all(await opened(database, Sealer.from_file(path), secrets))


async def test_a_running_process_opens_and_seals_under_the_new_key(database, path, secrets):
    running = Sealer.from_file(path)

    await rotate(database, path, drop_old=True)

    assert all(await opened(database, running, secrets))
    assert running.is_current(running.seal("x", context=b""))
    assert running.newest == path.read_text().split()[0]


async def test_the_key_before_stays_readable_until_the_next_rotation(database, path, secrets):
    late = Sealer.from_file(path).seal("just now", context=b"c")

    await rotate(database, path)
    assert Sealer.from_file(path).unseal(late, context=b"c") == "just now"

    await rotate(database, path)
    with pytest.raises(SetupError, match="lacks the key"):
        Sealer.from_file(path).unseal(late, context=b"c")
    assert len(path.read_text().splitlines()) == 2


async def test_a_rotation_that_cannot_open_a_secret_keeps_every_key(
    database, path, secrets, owner_connection
):
    owner_connection.execute(
        "UPDATE credential SET secret_sealed = secret_sealed || '\\x00' WHERE project_id = 'p2'"
    )
    before = path.read_text()

    with pytest.raises(SetupError, match="changed or moved"):
        await rotate(database, path, drop_old=True)

    assert path.read_text().startswith(before)
    del secrets["p2"]
    assert all(await opened(database, Sealer.from_file(path), secrets))
