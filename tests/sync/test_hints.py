"""Notifications as hints: authenticated, deduplicated, in any order; the listing decides."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass

import aiohttp
import pytest
from real_registry import MISSING, running_registry

from http_port import serving
from wharfinger.cli.sync import somebody_works
from wharfinger.domain.model import RegistryCredential
from wharfinger.store.registries import NewRegistry, RegistryChange
from wharfinger.testing.model import made_up_world
from wharfinger.testing.oci import OciUpstream

NOBODY = RegistryCredential(kind="none")
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
RUNS = "SELECT kind, outcome, repositories_total, requests FROM run ORDER BY queued_at"
PATH = "r.namespace || '/' || r.name"


@dataclass
class Bell:
    """What a registry holds: where to ring, and the token."""

    yard: object
    url: str
    token: str

    async def ring(self, *events, token=None) -> tuple[int, dict]:
        body = json.dumps({"events": list(events)})
        return await self.send(body, token=self.token if token is None else token)

    async def send(self, body, *, token) -> tuple[int, dict]:
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        async with (
            aiohttp.ClientSession() as session,
            session.post(self.url, data=body, headers=headers) as answer,
        ):
            return answer.status, await answer.json()

    async def ended(self) -> None:
        await until(lambda: not self.yard.value("SELECT count(*) FROM run WHERE state<>'finished'"))


def event(path, action="push", *, tag="v1", media_type=MANIFEST) -> dict:
    target = {"repository": path, "mediaType": media_type}
    return {"id": "1", "action": action, "target": target | ({"tag": tag} if tag else {})}


async def until(true, within_s=20) -> None:
    async with asyncio.timeout(within_s):
        while not true():
            await asyncio.sleep(0.02)


@pytest.fixture
async def upstream():
    async with OciUpstream(made_up_world(6, 4)) as running:
        yield running


@pytest.fixture
async def bell(yard, upstream):
    """The upstream as a registry, synchronised once, and its bell."""
    await yard.add(an_other(upstream.url), NOBODY)
    await yard.sync()
    made = await yard.house.hints.make_token(yard.caller, "other")
    async with serving(yard.house) as url:
        yield Bell(yard, url + made.path, made.token)


def an_other(url, **options) -> NewRegistry:
    return NewRegistry(
        name="other", kind="Other", address=url, options=options, allow_private_networks=True
    )


def requests_for(upstream, path) -> int:
    return len(upstream.requests(rf"/v2/{path}/tags/list"))


# --- what they bring ---------------------------------------------------------------------------


async def test_a_push_is_visible_without_a_sync_and_costs_its_own_repository(yard, upstream, bell):
    path = upstream.world.owned()[2].path
    upstream.world.push(path, "fresh")
    before = len(upstream.requests())

    status, receipt = await bell.ring(event(path))
    await bell.ended()

    assert (status, receipt) == (200, {"repositories": 1, "ignored": 0})
    assert yard.stored() == upstream.world.images()
    assert yard.owner.execute(RUNS).fetchall()[1][:3] == ("hint", "complete", 1)
    asked = [r.path for r in upstream.requests()[before:]]
    assert all(path in p for p in asked)
    # One page of tags, a HEAD for each of five, the manifest and the config of the new one, and
    # what belongs to each of the five.
    assert len(asked) == 13


@pytest.mark.hard_case("H30", guard="wharfinger.sources.oci:_Event.tells_of_a_manifest")
async def test_a_deletion_is_decided_by_the_listing_and_not_by_the_notification(
    yard, upstream, bell
):
    path = upstream.world.owned()[0].path
    gone, kept = sorted(upstream.world.owned()[0].tags)[:2]
    upstream.world.delete_tag(path, gone)

    # It names the wrong tag, and says "delete" of one that is there.
    await bell.ring(event(path, "delete", tag=kept, media_type=""))
    await bell.ended()

    assert yard.stored() == upstream.world.images()
    assert yard.events()[-1] == ("retired", gone)


@pytest.mark.hard_case("H30", guard="wharfinger.service.hints:Hints.receive")
async def test_notifications_in_the_wrong_order_end_in_the_right_list(yard, upstream, bell):
    path = upstream.world.owned()[0].path
    upstream.world.push(path, "late")
    upstream.world.delete_tag(path, "late")
    upstream.world.push(path, "late")

    for action in ("delete", "push", "delete"):
        await bell.ring(event(path, action, tag="late"))
    await bell.ended()

    assert yard.stored() == upstream.world.images()


@pytest.mark.hard_case("H30", guard="wharfinger.store.writing:_forget_unknown")
async def test_a_repository_nobody_knew_is_read_and_one_that_is_not_there_is_not_kept(
    yard, upstream, bell
):
    upstream.world.namespace("brand")
    upstream.world.create_repository("brand/new")
    upstream.world.push("brand/new", "v1")

    await bell.ring(event("brand/new"), event("forged/name"))
    await bell.ended()

    assert yard.stored() == upstream.world.images()
    assert yard.value("SELECT verdict FROM repository WHERE name = 'new'") == "complete"
    assert yard.value("SELECT retired_at IS NOT NULL FROM repository WHERE namespace = 'forged'")
    assert yard.owner.execute(RUNS).fetchall()[1][:2] == ("hint", "complete")
    (registry,) = await yard.house.registries.list(yard.caller)
    assert (registry.repositories, registry.verdict) == (7, "complete")


async def test_a_registry_is_as_confirmed_after_a_hint_as_before(yard, upstream, bell):
    state = "SELECT verdict, confirmed_at, read_at, listed_generation FROM registry"
    before = yard.owner.execute(state).fetchall()
    absent = upstream.world.owned()[5].path
    upstream.world.delete_repository(absent)
    path = upstream.world.owned()[0].path
    upstream.world.push(path, "fresh")

    await bell.ring(event(path))
    await bell.ended()

    assert yard.owner.execute(state).fetchall() == before
    # The run saw nothing of the repository that is gone, so it says nothing about it.
    assert {p for p, _, _ in yard.stored()} >= {absent, path}
    live = "SELECT (SELECT live_images FROM registry) = (SELECT count(*) FROM image)"
    assert yard.value(live)


async def test_a_repository_that_cannot_be_read_keeps_its_images(yard, upstream, bell):
    before = yard.stored()
    path = upstream.world.owned()[1].path
    upstream.faults.answer(rf"/v2/{path}/tags/list", 403)

    await bell.ring(event(path))
    await bell.ended()

    assert yard.stored() == before
    assert yard.owner.execute(RUNS).fetchall()[1][1] == "failed"
    row = f"SELECT verdict, verdict_reason ->> 'code' FROM repository r WHERE {PATH} = %s"
    assert yard.owner.execute(row, (path,)).fetchall() == [("partial", "forbidden")]


async def test_an_emptied_repository_is_held_and_the_registry_says_so(yard, upstream, bell):
    before = yard.stored()
    repository = upstream.world.owned()[0]
    for tag in list(repository.tags):
        upstream.world.delete_tag(repository.path, tag)

    await bell.ring(event(repository.path, "delete"))
    await bell.ended()

    assert yard.stored() == before
    (registry,) = await yard.house.registries.list(yard.caller)
    assert (registry.held, registry.verdict_reasons[0]["code"]) == (4, "held")
    accepted = await yard.house.held.accept(yard.caller, "other", images=None)
    assert accepted == 4
    assert yard.stored() == upstream.world.images()


async def test_hints_share_one_retirement_budget_until_the_next_sync(yard, upstream, bell):
    repositories = upstream.world.owned()
    # The least budget is ten: three tags each of three repositories fit, the fourth does not.
    for repository in repositories[:4]:
        for tag in sorted(repository.tags)[:3]:
            upstream.world.delete_tag(repository.path, tag)
        await bell.ring(event(repository.path, "delete"))
        await bell.ended()

    assert yard.value("SELECT count(*) FROM image WHERE retired_at IS NOT NULL") == 9
    assert yard.value("SELECT count(*) FROM image WHERE held_at IS NOT NULL") == 3


# --- what they cost ------------------------------------------------------------------------------


@pytest.mark.hard_case("H30", guard="wharfinger.store.hints:receive")
async def test_a_repository_that_waits_to_be_read_is_not_queued_again(yard, upstream, bell):
    path = upstream.world.owned()[0].path
    before = requests_for(upstream, path)
    slow = upstream.faults.delay(r"/manifests/", 5.0)
    await bell.ring(event(path))
    await until(lambda: requests_for(upstream, path) > before)

    for _ in range(20):
        await bell.ring(event(path), event(path))
    upstream.faults.remove(slow)
    await bell.ended()

    # The one under way, and one more for whatever it came too late to see.
    assert requests_for(upstream, path) - before == 2
    assert yard.value("SELECT max(units_total) FROM run WHERE kind = 'hint'") == 2


@pytest.mark.hard_case("H30", guard="wharfinger.store.hints:receive")
async def test_a_push_into_a_repository_being_read_is_found_by_a_second_reading(
    yard, upstream, bell
):
    path = upstream.world.owned()[0].path
    before = requests_for(upstream, path)
    # The answer is made before the delay: it does not hold what is pushed meanwhile.
    upstream.faults.delay(rf"/v2/{path}/manifests", 0.5, times=1)
    await bell.ring(event(path))
    await until(lambda: requests_for(upstream, path) > before)

    upstream.world.push(path, "meanwhile")
    await bell.ring(event(path, tag="meanwhile"))
    await bell.ended()

    assert yard.stored() == upstream.world.images()


async def test_a_hint_during_a_sync_does_not_wait_for_its_end(yard, upstream, bell):
    first, last = upstream.world.owned()[0].path, upstream.world.owned()[5].path
    before = requests_for(upstream, last)
    upstream.faults.delay(rf"/v2/{last}/manifests", 4.0, times=1)
    task = await yard.house.synchroniser.synchronise_names(yard.caller, ())
    await until(lambda: requests_for(upstream, last) > before)

    upstream.world.push(first, "meanwhile")
    await bell.ring(event(first, tag="meanwhile"))
    await until(lambda: "meanwhile" in {tag for _, tag, _ in yard.stored()})

    # The batch that holds both repositories is still being read.
    assert yard.value("SELECT count(*) FROM unit WHERE NOT done AND NOT hinted") == 1
    (run,) = await yard.ended(task)
    assert (run.outcome, run.repositories_done, run.repositories_total) == ("complete", 6, 6)
    assert yard.stored() == upstream.world.images()
    assert yard.value("SELECT count(*) FROM run WHERE kind = 'hint'") == 0


async def test_of_two_readings_that_overlap_the_later_to_end_undoes_nothing(yard, upstream, bell):
    path = upstream.world.owned()[0].path
    before = requests_for(upstream, path)
    # The batch has listed the tags, without the new one, and hangs.
    upstream.faults.delay(rf"/v2/{path}/manifests", 3.0, times=1)
    task = await yard.house.synchroniser.synchronise_names(yard.caller, ())
    await until(lambda: requests_for(upstream, path) > before)

    upstream.world.push(path, "meanwhile")
    await bell.ring(event(path, tag="meanwhile"))
    await until(lambda: "meanwhile" in {tag for _, tag, _ in yard.stored()})
    (run,) = await yard.ended(task)

    assert run.outcome == "complete"
    assert yard.stored() == upstream.world.images()
    assert [kind for kind, tag in yard.events() if tag == "meanwhile"] == ["added"]
    # The batch, the hint, and once more because nobody can say which of them saw more.
    assert requests_for(upstream, path) - before == 3


async def test_a_sync_that_is_asked_for_before_a_hint_begins_takes_it_along(yard, upstream, bell):
    first = upstream.world.owned()[0].path
    upstream.faults.delay(rf"/v2/{upstream.world.owned()[5].path}/tags", 0.5, times=1)
    running = await yard.house.synchroniser.synchronise_names(yard.caller, ())
    queued = await yard.house.synchroniser.synchronise_names(yard.caller, ())
    upstream.world.push(first, "fresh")

    await bell.ring(event(first))
    await yard.ended(running)
    (run,) = await yard.ended(queued)

    assert (run.outcome, run.repositories_done) == ("complete", 6)
    assert yard.stored() == upstream.world.images()


async def test_what_a_filter_leaves_out_before_it_is_read_is_not_listed(idle_yard, upstream):
    kept, left_out = upstream.world.owned()[:2]
    await idle_yard.add(an_other(upstream.url), NOBODY)
    house, caller = idle_yard.house, idle_yard.caller
    made = await house.hints.make_token(caller, "other")
    body = json.dumps({"events": [event(kept.path), event(left_out.path)]}).encode()
    await house.hints.receive(made.token, caller.project_id, made.path.split("/")[-2], body)

    await house.registries.change(caller, "other", RegistryChange(exclude=[left_out.path]))
    async with somebody_works(house):
        await Bell(idle_yard, "", "").ended()

    listed = {path for path, _, _ in idle_yard.stored()}
    assert listed == {kept.path}
    assert requests_for(upstream, left_out.path) == 0


# --- who may ring --------------------------------------------------------------------------------


@pytest.mark.hard_case("H30", guard="wharfinger.service.hints:Hints._sender")
async def test_nobody_rings_without_the_registrys_own_token(yard, upstream, bell):
    second = await yard.add(
        NewRegistry(name="second", kind="Other", address=upstream.url, allow_private_networks=True),
        NOBODY,
    )
    others = await yard.house.hints.make_token(yard.caller, "second")
    path = upstream.world.owned()[0].path

    answers = [await bell.ring(event(path), token=t) for t in ("", "forged", others.token)]
    elsewhere = Bell(yard, bell.url.replace("acme-project", "other-project"), bell.token)
    answers.append(await elsewhere.ring(event(path)))

    assert {status for status, _ in answers} == {401}
    assert {body["error_code"] for _, body in answers} == {"APIGW.0301"}
    assert yard.value("SELECT count(*) FROM run WHERE kind = 'hint'") == 0
    assert yard.value("SELECT hinted_at IS NULL FROM registry WHERE id = %s", second)


async def test_a_new_token_ends_the_old_one_and_a_revoked_one_holds_no_longer(yard, bell):
    made = await yard.house.hints.make_token(yard.caller, "other")

    assert (await bell.ring())[0] == 401
    assert (await bell.ring(token=made.token))[0] == 200
    await yard.house.hints.revoke_token(yard.caller, "other")
    assert (await bell.ring(token=made.token))[0] == 401
    kept = yard.owner.execute("SELECT action, outcome FROM audit ORDER BY id").fetchall()
    assert kept[-1] == ("registry.hint_token", "revoked")
    assert not yard.value(
        "SELECT count(*) FROM registry WHERE hint_token::text LIKE %s", f"%{made.token}%"
    )


@pytest.mark.parametrize("body", ["", "{", "[]", '{"events": 1}', '{"events": [1]}', "{}"])
async def test_what_is_no_notification_is_refused_by_name(bell, body):
    status, answer = await bell.send(body, token=bell.token)

    assert (status, answer["error_code"]) == (400, "invalid_parameter")
    assert answer["error_msg"].startswith("body: ")


async def test_what_tells_of_no_manifest_is_ignored_so_that_the_registry_goes_on(yard, bell):
    status, receipt = await bell.ring(
        event("team/app", "pull"),
        event("team/app", tag="", media_type="application/octet-stream"),
        event("../escape"),
        {"action": "push"},
        {},
    )

    assert (status, receipt) == (200, {"repositories": 0, "ignored": 5})
    assert yard.value("SELECT count(*) FROM run WHERE kind = 'hint'") == 0


async def test_a_registry_of_named_repositories_hears_of_no_other(yard, upstream, bell):
    path, other = (r.path for r in upstream.world.owned()[:2])
    yard.owner.execute(
        "UPDATE registry SET options ="
        " jsonb_build_object('repositories', jsonb_build_array(%s::text))",
        (path,),
    )

    _, receipt = await bell.ring(event(path), event(other))
    await bell.ended()

    assert receipt == {"repositories": 1, "ignored": 1}


# --- a real registry -----------------------------------------------------------------------------


@pytest.mark.docker_registry
@pytest.mark.skipif(MISSING is not None, reason=MISSING or "")
async def test_a_real_registry_rings_by_itself(yard, tmp_path):
    folder = tmp_path / "registry"
    folder.mkdir()
    async with serving(yard.house) as url:
        # The registry needs the token before it starts, and we its address: it moves in later.
        await yard.add(an_other("http://127.0.0.1:1"), NOBODY)
        made = await yard.house.hints.make_token(yard.caller, "other")
        with running_registry(folder, notify=(url + made.path, made.token)) as registry:
            await yard.house.registries.change(
                yard.caller, "other", RegistryChange(address=registry.url)
            )
            first = await asyncio.to_thread(registry.push_image, "team/app", "v1", seed="1")
            await until(lambda: yard.stored() == {("team/app", "v1", first)})
            second = await asyncio.to_thread(registry.push_image, "team/app", "v2", seed="2")
            await until(lambda: ("team/app", "v2", second) in yard.stored())
            moved = await asyncio.to_thread(registry.push_image, "team/app", "v1", seed="3")
            await until(lambda: ("team/app", "v1", moved) in yard.stored())
            # No sync of the registry ever was: all retirements are held until there is one.
            run = await yard.sync()
            await asyncio.to_thread(registry.delete, "team/app", second)
            await until(lambda: yard.stored() == {("team/app", "v1", moved)})

    assert run.outcome == "complete"
    # Layers and configs were pushed as well; nobody read anything for them.
    assert yard.value("SELECT count(*) FROM run WHERE kind = 'hint'") <= 8
