"""What happens side by side, and what grows."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tracemalloc

import msgspec
import pytest

from wharfinger.domain.inventory import ImageFilter, RegistryScope
from wharfinger.domain.model import Caller, RegistryCredential, RunOutcome
from wharfinger.store import registries
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

# What one more tag may cost a process while its repository is read; its rows take a kilobyte.
BYTES_PER_TAG = 250


# --- memory --------------------------------------------------------------------------------------


@pytest.mark.hard_case("H23", guard="wharfinger.sync.engine:_Reader._stage")
async def test_ten_times_the_tags_do_not_take_ten_times_the_memory(yard):
    few, many = 400, 4000
    peaks = {}
    for tags in (few, few, many):  # The first time fills caches.
        with UpstreamProcess(tags) as access:
            await yard.add(
                NewRegistry(
                    name=f"with-{tags}-{len(peaks)}",
                    kind="SwrPrivate",
                    address=access["url"],
                    options={"page_size": 100},
                    allow_private_networks=True,
                ),
                RegistryCredential(
                    kind="access_key", identity=access["access_key"], secret=access["secret_key"]
                ),
            )
            peaks[tags] = await peak_of(yard.sync(names=(f"with-{tags}-{len(peaks)}",)), tags)

    print(peaks)
    assert (peaks[many] - peaks[few]) / (many - few) < BYTES_PER_TAG


class UpstreamProcess:
    """An upstream of one repository, in a process whose memory is its own."""

    def __init__(self, tags: int) -> None:
        command = [sys.executable, "-m", "wharfinger.testing.upstream"]
        self._process = subprocess.Popen(
            [*command, "--repositories", "1", "--tags", str(tags)], stdout=subprocess.PIPE
        )

    def __enter__(self) -> dict[str, str]:
        return msgspec.json.decode(self._process.stdout.readline())

    def __exit__(self, *_) -> None:
        self._process.kill()
        self._process.communicate()


async def peak_of(sync, tags: int) -> int:
    tracemalloc.start(1)
    try:
        run = await sync
        assert (run.outcome, run.images) == (RunOutcome.COMPLETE, tags)
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


# --- tenants and readers -------------------------------------------------------------------------


@pytest.mark.hard_case("H26", guard="wharfinger.sync.engine:_Sources.use")
async def test_two_tenants_at_once_get_what_is_theirs(yard, upstream):
    yard.owner.execute("INSERT INTO project VALUES ('other-project', 'other')")
    yard.owner.execute("INSERT INTO tenant_feed VALUES ('other-project')")
    other = Caller(project_id="other-project", project_name="other", principal="test")
    async with Upstream(made_up_world(7, 3, account="other")) as elsewhere:
        await yard.add_swr(upstream, name="same")
        key = elsewhere.key
        async with yard.house.database.tenant("other-project") as tx:
            await registries.add_registry(
                tx,
                "other-project",
                NewRegistry(
                    name="same",
                    kind="SwrPrivate",
                    address=elsewhere.url,
                    allow_private_networks=True,
                ),
                RegistryCredential(
                    kind="access_key", identity=key.access_key, secret=key.secret_key
                ),
                seals=yard.house.keys,
            )
        upstream.faults.delay(r"/tags\?", 0.02)
        elsewhere.faults.delay(r"/tags\?", 0.02)

        ours = await yard.house.synchroniser.synchronise_names(yard.caller, [])
        theirs = await yard.house.synchroniser.synchronise_names(other, [])
        await yard.ended(ours)
        while (await yard.house.synchroniser.task(other, theirs)).finished_at is None:
            await asyncio.sleep(0.03)

        rows = yard.owner.execute(
            "SELECT i.project_id, r.namespace || '/' || r.name, i.tag, i.digest"
            " FROM image i JOIN repository r ON r.id = i.repository_id"
        ).fetchall()
        assert {row[1:] for row in rows if row[0] == "acme-project"} == upstream.world.images()
        assert {row[1:] for row in rows if row[0] == "other-project"} == elsewhere.world.images(
            "other"
        )
        assert len(rows) == 60 + 21


@pytest.mark.hard_case("H27", guard="wharfinger.store.writing:publish_unit")
async def test_readers_during_a_sync_see_each_repository_old_or_new_and_never_empty(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    old = yard.stored()
    for path, tag, _ in old:
        upstream.world.move(path, tag)
    new = upstream.world.images()
    upstream.faults.delay(r"/tags\?", 0.1)
    everything = ImageFilter(scope=RegistryScope(enterprise_projects=("0",)))

    task = await yard.house.synchroniser.synchronise_names(yard.caller, [])
    looks = 0
    while (await yard.house.synchroniser.task(yard.caller, task)).finished_at is None:
        seen = yard.stored()
        page = await yard.house.inventory.images(yard.caller, everything, offset=0, limit=200)
        assert page.total == len(page.items) == len(seen) == 60
        for path in {row[0] for row in old}:
            rows = {row for row in seen if row[0] == path}
            assert rows in ({r for r in old if r[0] == path}, {r for r in new if r[0] == path})
        looks += 1

    assert yard.stored() == new
    assert looks > 3
