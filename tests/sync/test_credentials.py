"""Registries whose passwords are kept outside: the worker finds them, or says it needs them."""

import msgspec
import pytest

from wharfinger.domain.errors import NotGrantedError
from wharfinger.domain.examination import Grade
from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.store.registries import NewRegistry, RegistryChange
from wharfinger.testing.oci import OciBehaviour, OciUpstream

OPERATOR = {"is_operator": True}


@pytest.fixture
async def registry():
    """A registry that asks for a name and a password."""
    async with OciUpstream(behaviour=OciBehaviour(auth="basic")) as running:
        running.world.push("team/app", "v1")
        yield running


def kept(reference, identity="reader"):
    return RegistryCredential(kind="basic", identity=identity, reference=reference)


def other(registry, name="other"):
    return NewRegistry(name=name, kind="Other", address=registry.url, allow_private_networks=True)


@pytest.fixture
def operator(yard):
    return msgspec.structs.replace(yard.caller, **OPERATOR)


async def test_the_password_is_read_when_the_registry_is(yard, operator, registry, tmp_path):
    place = tmp_path / "password"
    await yard.house.registries.add(operator, other(registry), kept(f"file:{place}"))

    without = await yard.sync()
    yard.house.references._answers.clear()
    place.write_text(registry.behaviour.password)
    good = await yard.sync()

    assert (without.outcome, without.reasons[0].code) == (RunOutcome.FAILED, "credentials_needed")
    assert str(place) not in without.reasons[0].message
    assert good.outcome is RunOutcome.COMPLETE
    assert yard.stored()


async def test_a_password_that_was_replaced_outside_is_used_by_the_next_run(
    yard, operator, registry, tmp_path
):
    place = tmp_path / "password"
    place.write_text("the old one")
    await yard.house.registries.add(operator, other(registry), kept(f"file:{place}"))

    before = await yard.sync()
    place.write_text(registry.behaviour.password)
    yard.house.references._answers.clear()
    after = await yard.sync()

    assert (before.outcome, before.reasons[0].code) == (RunOutcome.FAILED, "unauthorised")
    assert after.outcome is RunOutcome.COMPLETE


async def test_a_password_moves_out_of_the_database_and_back(yard, operator, registry, tmp_path):
    place = tmp_path / "password"
    place.write_text(registry.behaviour.password)
    secret = RegistryCredential(kind="basic", identity="reader", secret=registry.behaviour.password)
    registries = yard.house.registries
    await registries.add(operator, other(registry), secret)

    kept_where = "SELECT credential_sealed IS NULL, credential_reference FROM registry"
    await registries.change(operator, "other", RegistryChange(), kept(f"file:{place}"))
    outside = yard.owner.execute(kept_where).fetchone()
    await registries.change(operator, "other", RegistryChange(), secret)
    inside = yard.owner.execute(kept_where).fetchone()

    assert outside == (True, f"file:{place}")
    assert inside == (False, None)
    assert (await yard.sync()).outcome is RunOutcome.COMPLETE


async def test_only_the_operator_names_places(yard, operator, registry):
    tenant = msgspec.structs.replace(operator, is_operator=False)
    registries = yard.house.registries
    public = msgspec.structs.replace(other(registry), allow_private_networks=False)

    with pytest.raises(NotGrantedError, match="only the operator may name a place"):
        await registries.add(tenant, public, kept("file:/etc/passwd"))
    await registries.add(tenant, public, RegistryCredential(kind="none"))
    with pytest.raises(NotGrantedError, match="only the operator may name a place"):
        await registries.change(tenant, "other", RegistryChange(), kept("exec:id"))

    assert yard.value("SELECT credential_reference FROM registry") is None


async def test_a_removed_registry_forgets_where_its_password_is(yard, operator, registry):
    await yard.house.registries.add(operator, other(registry), kept("env:NOWHERE"))

    await yard.house.registries.remove(operator, "other")

    assert yard.value("SELECT credential_reference FROM registry") is None


async def test_a_look_at_a_registry_says_that_it_needs_its_password(yard, operator, registry):
    await yard.house.registries.add(operator, other(registry), kept("env:NOWHERE_AT_ALL"))

    report = await yard.house.registries.test(operator, "other")

    assert (report.ok, report.error_code, report.requests) == (False, "credentials_needed", 0)


async def test_the_doctor_finds_what_is_kept_outside_or_says_that_it_is_not_there(
    yard, operator, registry, tmp_path
):
    place = tmp_path / "password"
    place.write_text(registry.behaviour.password)
    registries = yard.house.registries
    await registries.add(operator, other(registry), kept(f"file:{place}"))
    await registries.add(operator, other(registry, "without"), kept("env:NOWHERE_AT_ALL"))

    good = await yard.house.doctor.examine(operator, "other")
    without = await yard.house.doctor.examine(operator, "without")

    assert good.ok
    assert (without.ok, without.requests) == (False, 0)
    failed = [one for one in without.findings if one.grade is Grade.FAILED]
    assert [one.check for one in failed] == ["authentication"]
    assert failed[0].facts["error_code"] == "credentials_needed"


async def test_a_password_that_no_key_opens_is_needed_again(yard, operator, registry):
    secret = RegistryCredential(kind="basic", identity="reader", secret=registry.behaviour.password)
    await yard.house.registries.add(operator, other(registry), secret)
    # The key's id is part of what is stored.
    yard.owner.execute(
        "UPDATE registry SET credential_sealed ="
        " set_byte(credential_sealed, 1, (get_byte(credential_sealed, 1) + 1) % 256)"
    )

    run = await yard.sync()

    assert (run.outcome, run.reasons[0].code) == (RunOutcome.FAILED, "credentials_needed")
