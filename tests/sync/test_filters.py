"""A changed filter hides; it does not retire, and what it hid goes on when it is wanted again."""

from __future__ import annotations

import asyncio

import pytest

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.store.registries import NewRegistry, RegistryChange
from wharfinger.testing.model import made_up_world
from wharfinger.testing.oci import OciBehaviour, OciUpstream

HIDDEN = "SELECT count(*) FROM image WHERE hidden"


async def change(yard, **settings) -> int:
    return await yard.house.registries.change(yard.caller, "swrprivate", RegistryChange(**settings))


def outside(upstream, *paths) -> set[tuple[str, str, str]]:
    return {row for row in upstream.world.images() if row[0] not in paths}


def kinds(yard) -> list[str]:
    return [kind for kind, _ in yard.events()]


@pytest.mark.hard_case("H28", guard="wharfinger.store.writing:hide")
async def test_a_filter_hides_at_once_and_retires_nothing(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    path = upstream.world.owned()[0].path

    hidden = await change(yard, exclude=[path])

    assert hidden == 5
    assert yard.stored() == outside(upstream, path)
    assert kinds(yard)[-5:] == ["hidden"] * 5
    assert yard.value("SELECT live_images FROM registry") == 55


@pytest.mark.hard_case("H28", guard="wharfinger.sync.engine:_wanted")
async def test_a_filtered_registry_is_complete_and_holds_nothing(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    path = upstream.world.owned()[0].path
    await change(yard, exclude=[path])

    run = await yard.sync()

    assert (run.outcome, run.held, run.retired) == (RunOutcome.COMPLETE, 0, 0)
    assert yard.stored() == outside(upstream, path)
    assert not upstream.requests(f"{path.partition('/')[2]}/tags")[1:]


@pytest.mark.hard_case("H28", guard="wharfinger.store.writing:_level")
async def test_what_is_wanted_again_is_shown_with_its_history(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    path = upstream.world.owned()[0].path
    ids = "SELECT array_agg(id ORDER BY id) FROM image"
    before = yard.value(ids)
    await change(yard, exclude=[path])
    await yard.sync()

    await change(yard, exclude=[])
    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()
    assert yard.value(ids) == before
    assert kinds(yard)[-10:] == ["hidden"] * 5 + ["shown"] * 5
    assert yard.value(HIDDEN) == 0


async def test_what_went_while_it_was_hidden_is_not_shown_again(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    repository = upstream.world.owned()[0]
    await change(yard, exclude=[repository.path])
    upstream.world.delete_tag(repository.path, min(repository.tags))

    await change(yard, exclude=[])
    await yard.sync()

    assert yard.stored() == upstream.world.images()
    assert kinds(yard)[-4:] == ["shown"] * 4
    assert yard.value(HIDDEN) == 0


async def test_history_knows_what_was_hidden_and_when(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    path = upstream.world.owned()[0].path
    before = yard.value("SELECT max(seq) FROM event")
    await change(yard, exclude=[path])
    after = yard.value("SELECT max(seq) FROM event")

    def listed(seq) -> int:
        return yard.value(
            "SELECT count(*) FROM image_version WHERE from_seq <= %s"
            " AND (to_seq IS NULL OR to_seq > %s)",
            seq,
            seq,
        )

    assert (listed(before), listed(after)) == (60, 55)


@pytest.mark.hard_case("H28", guard="wharfinger.store.runs:hide_uncovered")
async def test_a_run_under_the_old_filter_is_set_right_by_the_next(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    repository = upstream.world.owned()[0]
    upstream.world.push(repository.path, "fresh")
    slow = upstream.faults.delay(r"/tags\?", 0.6)
    task = await yard.house.synchroniser.synchronise_names(yard.caller, ())
    # The request is under way, and is in the log only once it is answered.
    while not slow.struck:
        await asyncio.sleep(0.01)

    await change(yard, exclude=[repository.path])
    await yard.ended(task)
    upstream.faults.clear()
    run = await yard.sync()

    assert run.outcome in (RunOutcome.COMPLETE, RunOutcome.HELD)
    assert yard.stored() == outside(upstream, repository.path)
    assert yard.value("SELECT count(*) FROM image WHERE held_at IS NOT NULL") == 0


async def test_only_what_is_included_is_read_and_excluded_wins(yard, upstream):
    paths = [r.path for r in upstream.world.owned()]
    await yard.add(
        NewRegistry(
            name="some",
            kind="SwrPrivate",
            address=upstream.url,
            include=[paths[0], paths[1], paths[2][:-1] + "?"],
            exclude=[paths[1]],
            allow_private_networks=True,
        ),
        RegistryCredential(
            kind="access_key",
            identity=upstream.key.access_key,
            secret=upstream.key.secret_key,
        ),
    )

    await yard.sync()

    stored = {path for path, _, _ in yard.stored()}
    assert paths[0] in stored
    assert paths[2] in stored
    assert paths[1] not in stored


async def test_another_list_of_named_repositories_hides_the_ones_before(yard):
    async with OciUpstream(made_up_world(3, 4)) as upstream:
        first, second, _ = (r.path for r in upstream.world.owned())
        await yard.add(
            NewRegistry(
                name="swrprivate",
                kind="Other",
                address=upstream.url,
                options={"repositories": [first]},
                allow_private_networks=True,
            ),
            RegistryCredential(kind="none"),
        )
        await yard.sync()

        hidden = await change(yard, options={"repositories": [second]})
        run = await yard.sync()

        assert (hidden, run.outcome, run.held) == (4, RunOutcome.COMPLETE, 0)
        assert {path for path, _, _ in yard.stored()} == {second}
        assert "retired" not in kinds(yard)


async def test_after_a_changed_filter_a_real_absence_is_held(yard, upstream):
    await yard.add_swr(upstream)
    await yard.sync()
    gone, hidden = (r.path for r in upstream.world.owned()[:2])
    upstream.world.delete_repository(gone)
    await change(yard, exclude=[hidden])

    run = await yard.sync()

    assert (run.outcome, run.held) == (RunOutcome.HELD, 5)
    assert gone in {path for path, _, _ in yard.stored()}


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"exclude": [""]}, "exclude"),
        ({"include": ["x" * 513]}, "include"),
        ({"include": ["a"] * 101}, "include"),
        ({"address": "nowhere"}, "address"),
        ({"options": {"page_size": 1}}, "options.page_size"),
    ],
)
async def test_a_change_that_is_out_of_range_changes_nothing(yard, upstream, settings, named):
    await yard.add_swr(upstream)
    before = yard.owner.execute("SELECT * FROM registry").fetchall()

    with pytest.raises(InvalidParameterError, match=f"^{named}: "):
        await change(yard, **settings)

    assert yard.owner.execute("SELECT * FROM registry").fetchall() == before
    assert yard.value("SELECT count(*) FROM audit") == 0


async def test_a_change_is_audited_without_its_secret(yard, upstream):
    await yard.add_swr(upstream)
    secret = "planted-secret-value"

    await yard.house.registries.change(
        yard.caller,
        "swrprivate",
        RegistryChange(exclude=["a/*"]),
        RegistryCredential(kind="access_key", identity="AKNEW", secret=secret),
    )

    row = yard.owner.execute("SELECT action, details::text FROM audit").fetchone()
    assert row[0] == "registry.set"
    assert "AKNEW" in row[1]
    assert secret not in row[1]
    sealed = yard.value("SELECT credential_sealed FROM registry")
    assert sealed
    assert secret.encode() not in bytes(sealed)


async def test_new_credentials_are_used_by_the_next_sync(yard, upstream):
    await yard.add_swr(upstream)
    wrong = RegistryCredential(kind="access_key", identity="AKWRONG", secret="w" * 40)
    await yard.house.registries.change(yard.caller, "swrprivate", RegistryChange(), wrong)
    refused = await yard.sync()
    key = upstream.key
    right = RegistryCredential(kind="access_key", identity=key.access_key, secret=key.secret_key)

    await yard.house.registries.change(yard.caller, "swrprivate", RegistryChange(), right)
    run = await yard.sync()

    assert refused.outcome is RunOutcome.FAILED
    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()


async def test_names_that_are_spelled_out_may_be_one_too_many(yard):
    async with OciUpstream(made_up_world(0, 0), OciBehaviour(catalog_status=404)) as registry:
        for path in ("team/web", "team/api", "other/app"):
            registry.world.push(path, "v1")
        await yard.add_oci(registry, repositories=["team/{web,api,job}"])

        run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert {path for path, _, _ in yard.stored()} == {"team/web", "team/api"}


async def test_what_a_pattern_no_longer_covers_is_hidden_and_not_retired(yard):
    async with OciUpstream(made_up_world(0, 0)) as registry:
        for path in ("team-a/app", "team-b/app", "team-b/web"):
            registry.world.push(path, "v1")
        await yard.add_oci(registry, repositories=["team-*/*"])
        await yard.sync()

        narrower = RegistryChange(options={"repositories": ["team-?/app"]})
        await yard.house.registries.change(yard.caller, "other", narrower)
        run = await yard.sync()

    assert (run.outcome, run.retired) == (RunOutcome.COMPLETE, 0)
    assert {path for path, _, _ in yard.stored()} == {"team-a/app", "team-b/app"}
    assert kinds(yard) == ["added"] * 3 + ["hidden"]
