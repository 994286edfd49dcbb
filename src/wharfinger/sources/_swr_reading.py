"""Reading answers of SWR, the same for both editions."""

from __future__ import annotations

import datetime as dt
from collections.abc import Hashable, Iterable

from wharfinger.domain.errors import ListMovedError
from wharfinger.domain.ports import Reply
from wharfinger.sources._reading import raise_for_status

# A push within the clock's own granularity may have happened after the row was made.
SETTLED_AFTER = dt.timedelta(seconds=5)

# Too many requests, which SWR says with 403, and its gateway with whatever status.
_THROTTLING_CODES = frozenset({"SVCSTG.SWR.4031032", "SVCSTG.SWR.4031042", "APIGW.0308"})


def check_status(reply: Reply) -> None:
    """Raise the error that an answer's status and SWR's own codes mean; 2xx passes."""
    raise_for_status(reply, throttling_codes=_THROTTLING_CODES)


def add_distinct(known: set[int], keys: Iterable[Hashable], name: str) -> None:
    """Add the keys' hashes to those seen, which costs a tenth of keeping the keys.

    Raises:
        ListMovedError: a row came before.
    """
    for key in map(hash, keys):
        if key in known:
            raise ListMovedError(f"SWR's list of {name} changed while read: a row came twice")
        known.add(key)
