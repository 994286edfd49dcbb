"""Registries that slow us down, and registries that want to know who asks."""

from __future__ import annotations

import time

import pytest
from served import CATALOG, codes, fill
from stages import OciRegistry

from wharfinger.domain.model import RunOutcome

# The date of the server's own clock, and the second after it.
NOW = "Thu, 01 Jan 2026 00:00:00 GMT"
THEN = "Thu, 01 Jan 2026 00:00:01 GMT"
THEN_EPOCH = "1767225601"
TOO_MANY = {"errors": [{"code": "TOOMANYREQUESTS", "message": "slow down"}]}


# --- throttling ----------------------------------------------------------------------------------


@pytest.mark.hard_case("H12", guard="wharfinger.sources._reading:retry_after_s")
@pytest.mark.parametrize(
    "headers",
    [
        {"Retry-After": "1"},
        {"Retry-After": THEN, "Date": NOW},
        {"X-Retry-After": THEN_EPOCH, "Date": NOW},
    ],
    ids=["seconds", "date", "epoch"],
)
@pytest.mark.parametrize("status", [429, 503])
async def test_a_wish_to_wait_is_obeyed_in_every_spelling(yard, registry, status, headers):
    fill(registry, 2)
    asked = []
    registry.faults.before(CATALOG, lambda: asked.append(time.monotonic()))
    registry.faults.answer(CATALOG, status, body=TOO_MANY, headers=headers, times=1)
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()
    # Without the wish the next try comes after half a second at most.
    assert asked[1] - asked[0] >= 0.95


@pytest.mark.hard_case("H12", guard="wharfinger.sources._reading:raise_for_status")
@pytest.mark.parametrize(
    ("status", "body"),
    [
        (429, TOO_MANY),
        (400, {"__type": "ThrottlingException", "message": "Rate exceeded"}),
        (503, b"busy"),
    ],
)
async def test_throttling_in_any_words_is_waited_out(yard, registry, status, body):
    fill(registry, 2)
    registry.faults.answer("/tags/list", status, body=body, times=1)
    await yard.add_oci(registry)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()


@pytest.mark.hard_case("H12", guard="wharfinger.sources._reading:raise_for_status")
async def test_a_403_by_which_swr_throttles_is_no_lack_of_permission(yard, upstream):
    upstream.swr_throttle(r"/tags\?", times=2)
    await yard.add_swr(upstream)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()


# --- tokens --------------------------------------------------------------------------------------


@pytest.mark.hard_case("H13", guard="wharfinger.sources._oci_login:RegistryLogin._bearer_value")
async def test_a_token_that_ends_in_the_middle_is_renewed_once_for_all_that_wait(yard, guarded):
    fill(guarded, 1, tags=40)
    guarded.faults.delay("/manifests/v", 0.02)
    guarded.faults.after("/manifests/v", guarded.expire_tokens, skip=8, times=1)
    await yard.add_oci(guarded, guarded.user())

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == guarded.world.images()
    # One for the catalog, one for the repository, and the renewal.
    assert len(guarded.requests("/token")) == 3
    assert len([line for line in guarded.log if line.status == 401]) > 2


@pytest.mark.hard_case("H13", guard="wharfinger.sources._oci_login:RegistryLogin._fetch")
async def test_each_repository_has_a_scope_and_the_realm_may_have_a_query(yard, guarded):
    guarded.behaviour.realm_query = "account=x"
    guarded.behaviour.token_field = "access_token"
    fill(guarded, 3, tags=4)
    await yard.add_oci(guarded, guarded.user())

    run = await yard.sync()

    scopes = [line.query for line in guarded.requests("/token")]
    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == guarded.world.images()
    assert "account=x&service=registry.example&scope=repository:team/app-000:pull" in scopes
    assert len(scopes) == len(set(scopes)) == 4


@pytest.mark.hard_case("H13", guard="wharfinger.sources._oci_login:RegistryLogin._read_token")
async def test_without_a_lifetime_a_token_is_good_for_more_than_one_request(yard, guarded):
    guarded.behaviour.expires_in = None
    fill(guarded, 1, tags=9)
    await yard.add_oci(guarded, guarded.user())

    await yard.sync()

    assert yard.stored() == guarded.world.images()
    assert len(guarded.requests("/token")) == 2


@pytest.mark.hard_case("H13", guard="wharfinger.sources._oci_login:RegistryLogin._basic_value")
async def test_a_registry_that_knows_basic_only_is_read_with_it_and_not_without(yard):
    async with OciRegistry(auth="basic") as registry:
        fill(registry, 2)
        await yard.add_oci(registry, registry.user())
        await yard.add_oci(registry, name="anonymous")

        read = await yard.sync(names=("other",))
        refused = await yard.sync(names=("anonymous",))

        assert read.outcome is RunOutcome.COMPLETE
        assert (refused.outcome, codes(refused)) == (RunOutcome.FAILED, ["unauthorised"])
        assert yard.stored() == registry.world.images()


@pytest.mark.hard_case("H13", guard="wharfinger.sources._http:_redirected")
async def test_credentials_do_not_follow_a_redirect_to_another_host(yard, registry):
    async with OciRegistry(auth="basic") as guarded:
        fill(guarded, 1)
        fill(registry, 1)
        moved = {"Location": f"{registry.url}{CATALOG}"}
        guarded.faults.answer(CATALOG, 307, headers=moved, skip=1)
        await yard.add_oci(guarded, guarded.user())

        run = await yard.sync()

        assert run.outcome is RunOutcome.COMPLETE
        assert yard.stored() == guarded.world.images()
        assert [line.headers.get("authorization") for line in registry.log] == [None]


@pytest.mark.hard_case("H13", guard="wharfinger.sources._oci_login:RegistryLogin._better_value")
async def test_a_host_we_were_redirected_to_gets_no_password_for_the_asking(yard, registry):
    async with OciRegistry(auth="basic") as thief:
        fill(registry, 1)
        user = thief.user()
        await yard.add_oci(registry, user)
        await yard.sync()
        registry.faults.answer(CATALOG, 307, headers={"Location": f"{thief.url}{CATALOG}"})

        run = await yard.sync()

        assert (run.outcome, codes(run)) == (RunOutcome.FAILED, ["unauthorised"])
        assert yard.stored() == registry.world.images()
        assert [line.headers.get("authorization") for line in thief.log] == [None]
