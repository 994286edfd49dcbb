"""A sync through the client of the extra ``fast``."""

from __future__ import annotations

import sys

import pytest

from wharfinger.domain.errors import ExtraMissingError
from wharfinger.domain.model import RunOutcome
from yard import yard_with


async def test_a_sync_through_the_second_client_stores_the_same(
    database_address, owner_connection, tmp_path, upstream
):
    chosen = {"WHARFINGER_FAST_HTTP": "true"}
    async with yard_with(database_address, owner_connection, tmp_path, **chosen) as yard:
        await yard.add_swr(upstream)
        first, again = await yard.sync(), await yard.sync(full=True)

    assert (first.outcome, again.outcome) == (RunOutcome.COMPLETE, RunOutcome.COMPLETE)
    assert (first.added, again.added, again.requests) == (60, 0, 13)
    assert yard.stored() == upstream.world.images()
    # Only the first client begins with the host, whatever else there is.
    assert "host" not in {next(iter(logged.headers)) for logged in upstream.log}


async def test_without_the_extra_nothing_starts_and_the_message_names_it(
    database_address, owner_connection, tmp_path, monkeypatch
):
    monkeypatch.setitem(sys.modules, "pyreqwest.client", None)
    chosen = {"WHARFINGER_FAST_HTTP": "true"}

    with pytest.raises(ExtraMissingError, match=r"pip install 'wharfinger\[fast\]'"):
        async with yard_with(database_address, owner_connection, tmp_path, **chosen):
            pass
