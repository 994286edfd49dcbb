"""The sample that `serve --sample` brings along."""

from __future__ import annotations

from wharfinger.cli.sample import PROJECT_ID, REGISTRIES, Sample
from wharfinger.domain.model import Caller, RegistryCredential, RunOutcome
from wharfinger.store.registries import RegistryChange


async def test_a_sample_of_an_older_version_is_given_its_key_and_address_anew(yard):
    yard.caller = Caller(project_id=PROJECT_ID, project_name="", principal="t", is_operator=True)
    old = RegistryCredential(kind="access_key", identity="AK", secret="another key")
    name = next(iter(REGISTRIES))
    with Sample.running() as before:
        await before.settle_in(yard.house, "http://127.0.0.1:1")
        await yard.house.registries.change(yard.caller, name, RegistryChange(), old)

    with Sample.running() as now:
        await now.settle_in(yard.house, "http://127.0.0.1:1")
        run = await yard.sync(names=(name,))

    assert run.outcome is RunOutcome.COMPLETE
    assert run.images > 0
