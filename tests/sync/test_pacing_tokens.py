"""A token that ends in the middle of a listing is renewed by one request, however many wait."""

import pytest

from wharfinger.domain.model import RegistryCredential
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream

TOKENS = r"/v3/auth/tokens"


@pytest.mark.hard_case("H13", guard="wharfinger.sources._swr_login:FetchedToken._renewed")
async def test_a_token_revoked_in_the_middle_of_a_sync_is_renewed_once(yard):
    async with Upstream(made_up_world(40, 3)) as upstream:
        upstream.world.clock.follow_real_time()
        home = upstream.world.home
        await yard.add(
            NewRegistry(
                name="swr",
                kind="SwrPrivate",
                address=upstream.url,
                options={"iam_address": upstream.url},
                allow_private_networks=True,
            ),
            RegistryCredential(kind="basic", identity=home.name, secret=home.password),
        )
        # Every tag list takes a moment, so that all places are in use when the token ends.
        upstream.faults.delay(r"/tags\?", 0.05)
        upstream.faults.after(r"/tags\?", upstream.iam.revoke_all, skip=8, times=1)

        run = await yard.sync()

        asked = upstream.requests(TOKENS, method="POST")
        refused = [line for line in upstream.log if line.status == 401]
        assert run.outcome == "complete"
        assert yard.stored() == upstream.world.images()
        assert len(asked) == 2
        assert len(refused) > 1
