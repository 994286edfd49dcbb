"""The made-up SWR that ``serve --sample`` brings along, and the project that reads it."""

from __future__ import annotations

import contextlib
import datetime as dt
import os
from collections.abc import Iterator
from typing import Self

import msgspec

from wharfinger.domain.errors import ConflictError
from wharfinger.domain.model import Caller, RegistryCredential, TwoStrikes
from wharfinger.store.registries import NewRegistry, RegistryChange
from wharfinger.testing.sample import sample_world
from wharfinger.testing.upstream import Upstream
from wharfinger.wiring import House

PROJECT_ID = "sample"
# Named after a region, so that an unmodified SDK finds it.
PROJECT_NAME = "cn-north-4"
REGISTRIES = {"swr-private": "SwrPrivate", "swr-shared": "SwrShared"}
FILE = "sample.json"


class Sample:
    """A running upstream and the means to read it."""

    def __init__(self, upstream: Upstream) -> None:
        self._upstream = upstream

    @classmethod
    @contextlib.contextmanager
    def running(cls) -> Iterator[Self]:
        """Run the upstream in a thread of this process, on a loopback port."""
        world = sample_world()
        world.clock.follow_real_time()
        with Upstream(world).running_in_thread() as upstream:
            yield cls(upstream)

    async def settle_in(self, house: House, url: str) -> None:
        """Make the project and its registries, and leave a note on how to use them.

        The note is ``sample.json`` in the data directory, mode 0600.
        """
        with contextlib.suppress(ConflictError):
            await house.callers.create_project(PROJECT_NAME, PROJECT_ID)
        caller = Caller(
            project_id=PROJECT_ID, project_name=PROJECT_NAME, principal="sample", is_operator=True
        )
        for name, kind in REGISTRIES.items():
            await self._add(house, caller, name, kind)
        credential = await house.callers.create_credential(PROJECT_ID)
        note = {
            "service": url,
            "project_id": PROJECT_ID,
            "token": await house.callers.create_token(PROJECT_ID, dt.timedelta(days=1)),
            "access_key": credential.access_key,
            "secret_key": credential.secret_key,
            "upstream": {"url": self._upstream.url, "token": self._upstream.token()},
        }
        path = house.settings.data_dir / FILE
        house.settings.data_dir.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(msgspec.json.format(msgspec.json.encode(note)))

    async def _add(self, house: House, caller: Caller, name: str, kind: str) -> None:
        key = self._upstream.key
        new = NewRegistry(
            name=name,
            kind=kind,
            address=self._upstream.url,
            region=self._upstream.world.region,
            allow_private_networks=True,
        )
        credential = RegistryCredential(
            kind="access_key", identity=key.access_key, secret=key.secret_key
        )
        # Each start brings back what the walk before it has deleted. That is no contradiction of a
        # registry's, after some of which it would be looked at twice.
        change = RegistryChange(two_strikes=TwoStrikes.OFF)
        try:
            await house.registries.add(caller, new, credential)
        except ConflictError:
            # An earlier sample in this data directory: the upstream has another port now, and of
            # another version another key.
            change = RegistryChange(address=self._upstream.url, two_strikes=TwoStrikes.OFF)
        await house.registries.change(caller, name, change, credential)
