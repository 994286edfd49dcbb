"""What a registry may reach depends on who added it, and on the certificates it was given."""

import msgspec
import pytest
from reaching import Authority

from wharfinger.domain.errors import NotGrantedError
from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.domain.tally import Tally
from wharfinger.settings import read_settings
from wharfinger.store.registries import NewRegistry, RegistryChange
from wharfinger.testing.oci import OciBehaviour, OciUpstream
from wharfinger.wiring import SourceOpener

NOBODY = RegistryCredential(kind="none")


@pytest.fixture
async def inside():
    """A registry on loopback, with one image."""
    async with OciUpstream() as registry:
        registry.world.push("team/app", "v1")
        yield registry


@pytest.fixture
def tenant(yard):
    """Somebody who may do everything in the project, but is not the operator."""
    return msgspec.structs.replace(yard.caller, is_operator=False)


def other(address, **settings):
    return NewRegistry(name="other", kind="Other", address=address, **settings)


async def test_what_a_tenant_adds_does_not_reach_inside(yard, tenant, inside):
    registries = yard.house.registries
    with pytest.raises(NotGrantedError, match="only the operator"):
        await registries.add(tenant, other(inside.url, allow_private_networks=True), NOBODY)

    await registries.add(tenant, other(inside.url), NOBODY)
    report = await registries.test(tenant, "other")
    run = await yard.sync()

    assert (report.ok, report.error_code) == (False, "address_refused")
    assert (run.outcome, run.reasons[0].code) == (RunOutcome.FAILED, "address_refused")
    assert inside.log == []


async def test_what_the_operator_adds_reaches_inside_until_a_tenant_moves_it(yard, tenant, inside):
    registries = yard.house.registries
    await registries.add(yard.caller, other(inside.url, allow_private_networks=True), NOBODY)
    await registries.change(tenant, "other", RegistryChange(exclude=("x/*",)))
    assert (await yard.sync()).outcome is RunOutcome.COMPLETE
    asked = len(inside.log)

    port = inside.url.rpartition(":")[2]
    await registries.change(tenant, "other", RegistryChange(address=f"http://localhost:{port}"))
    run = await yard.sync()

    assert (run.outcome, run.reasons[0].code) == (RunOutcome.FAILED, "address_refused")
    assert len(inside.log) == asked


async def test_a_tenant_who_gives_another_address_in_the_options_moves_it_too(yard, tenant, inside):
    registries = yard.house.registries
    await registries.add(yard.caller, other(inside.url, allow_private_networks=True), NOBODY)

    await registries.change(tenant, "other", RegistryChange(options={"repositories": ["team/app"]}))

    assert yard.value("SELECT allow_private_networks FROM registry") is False


async def test_a_named_network_is_open_to_a_tenants_registry(yard, tenant, inside):
    named = read_settings(environment={"WHARFINGER_ALLOW_NETWORKS": "127.0.0.0/30"})
    opener = SourceOpener(named, yard.house.opener._budgets, Tally())
    registries = type(yard.house.registries)(yard.house.database, yard.house.keys, opener)
    await registries.add(tenant, other(inside.url), NOBODY)

    report = await registries.test(tenant, "other")

    assert (report.ok, report.sample_repository) == (True, "team/app")


async def test_a_ca_of_one_registry_makes_no_other_trusted(yard):
    authority = Authority("company")
    registry = OciUpstream()
    registry.world.push("team/app", "v1")
    registry.tls = authority.server("127.0.0.1")
    async with registry:
        for name, pem in (("with", authority.pem), ("without", None)):
            await yard.add(
                NewRegistry(
                    name=name,
                    kind="Other",
                    address=registry.url,
                    ca_pem=pem,
                    allow_private_networks=True,
                ),
                NOBODY,
            )
        trusted = await yard.sync(names=("with",))
        asked = len(registry.log)
        other_run = await yard.sync(names=("without",))

        assert trusted.outcome is RunOutcome.COMPLETE
        assert other_run.outcome is RunOutcome.FAILED
        assert "certificate not trusted" in other_run.reasons[0].message
        assert len(registry.log) == asked


@pytest.mark.parametrize("password", [True, False], ids=["with a password", "with none"])
async def test_a_registry_over_tls_cannot_send_us_to_a_realm_without(yard, password):
    authority = Authority("company")
    behaviour = OciBehaviour(auth="bearer", anonymous_tokens=True)
    async with OciUpstream() as thief:
        registry = OciUpstream(behaviour=behaviour)
        registry.tls = authority.server("127.0.0.1")
        behaviour.realm = f"{thief.url}/token"
        async with registry:
            user = RegistryCredential(kind="basic", identity="reader", secret=behaviour.password)
            await yard.add(
                other(registry.url, ca_pem=authority.pem, allow_private_networks=True),
                user if password else NOBODY,
            )

            run = await yard.sync()

        assert (run.outcome, run.reasons[0].code) == (RunOutcome.FAILED, "unexpected")
        assert "without TLS" in run.reasons[0].message
        assert thief.log == []
