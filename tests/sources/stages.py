"""The stages on which the kinds are tried."""

import contextlib

from wharfinger.domain.model import RegistryCredential
from wharfinger.testing.model import World
from wharfinger.testing.source_suite import Stage
from wharfinger.testing.upstream import Upstream


def signed_by(key):
    return RegistryCredential(kind="access_key", identity=key.access_key, secret=key.secret_key)


@contextlib.asynccontextmanager
async def swr_stage(*, shared=False, api="v2", credential=None):
    world = World()
    async with Upstream(world) as upstream:
        owner = "partner" if shared else "acme"

        def push(path, tag):
            placed = world.push(path, tag, account=owner)
            if shared and "acme" not in world.repository(path).shares:
                world.share(path, "acme")
            return placed

        yield Stage(
            server=upstream,
            credential=credential or signed_by(upstream.key),
            push=push,
            expected=lambda: world.images(owner),
            repositories=r"/manage/shared-repositories" if shared else r"/manage/repos\?",
            tags=r"/tags\?",
            options={"api": api},
            secrets=(upstream.key.secret_key, "Signature="),
        )
