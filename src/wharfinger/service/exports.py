"""The whole list at once, out of one state of it, in parts that fit into memory."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass

from wharfinger.domain.errors import InvalidParameterError, StoreBusyError
from wharfinger.domain.history import Moment, PastFilter, PastImage, RegistryVerdict
from wharfinger.domain.inventory import ImageFilter, ListedImage
from wharfinger.domain.model import Caller, VerdictState
from wharfinger.store import history
from wharfinger.store.database import Connection, Database, within
from wharfinger.store.reading import PART, Reading, together

Part = tuple[ListedImage, ...] | tuple[PastImage, ...]

# Each holds a connection of the pool and a snapshot for as long as its reader takes.
AT_ONCE = 2
WAIT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class Export:
    """What is known before the first image: the state that all of them are from.

    ``at`` is the moment that the list is of. ``addresses`` says where the images of a registry
    are, by the registry's id.
    """

    project_id: str
    as_of: int
    at: dt.datetime
    verdict: VerdictState
    addresses: Mapping[str, str]
    parts: AsyncIterator[Part]


class Exports:
    """Reads whole lists; no more than a few at once."""

    def __init__(self, database: Database, reader: Reading) -> None:
        self._database = database
        self._reader = reader
        self._turns = asyncio.Semaphore(AT_ONCE)

    @contextlib.asynccontextmanager
    async def current(
        self, caller: Caller, wanted: ImageFilter, *, after_id: int = 0
    ) -> AsyncIterator[Export]:
        """The list as it is, for as long as the context lasts.

        Raises:
            StoreBusyError: others are being read and do not end.
        """
        async with self._turn(), self._database.snapshot(caller.project_id) as tx:
            worth, parts = await self._reader.whole(
                tx, caller.project_id, wanted, after_id=after_id
            )
            async with contextlib.aclosing(parts):
                yield Export(
                    project_id=caller.project_id,
                    as_of=worth.as_of,
                    at=dt.datetime.now(dt.UTC),
                    verdict=worth.verdict,
                    addresses=await self._reader.addresses(tx, caller.project_id),
                    parts=parts,
                )

    @contextlib.asynccontextmanager
    async def past(
        self,
        caller: Caller,
        wanted: PastFilter,
        *,
        at: dt.datetime | None = None,
        seq: int | None = None,
    ) -> AsyncIterator[Export]:
        """The list as it was known at a moment, or at an event number.

        Raises:
            InvalidParameterError: it lies in the future.
            HistoryForgottenError: it lies before the retention horizon.
            StoreBusyError: others are being read and do not end.
        """
        async with self._turn(), self._database.snapshot(caller.project_id) as tx:
            moment = await _moment(tx, caller, at=at, seq=seq)
            first, registries = await _past_part(tx, caller, moment, wanted, after=0)
            parts = _past_parts(tx, caller, moment, wanted, first)
            async with contextlib.aclosing(parts):
                yield Export(
                    project_id=caller.project_id,
                    as_of=moment.seq,
                    at=moment.at,
                    verdict=together(r.verdict for r in registries if _is_asked(wanted, r)),
                    addresses=await self._reader.addresses(tx, caller.project_id),
                    parts=parts,
                )

    @contextlib.asynccontextmanager
    async def _turn(self) -> AsyncIterator[None]:
        try:
            async with asyncio.timeout(WAIT_S):
                await self._turns.acquire()
        except TimeoutError as exc:
            raise StoreBusyError(f"{AT_ONCE} whole lists are being read already") from exc
        try:
            yield
        finally:
            self._turns.release()


async def _moment(
    tx: Connection, caller: Caller, *, at: dt.datetime | None, seq: int | None
) -> Moment:
    if seq is not None:
        return await history.moment_of(tx, caller, seq)
    if at is None or at > dt.datetime.now(dt.UTC):
        raise InvalidParameterError("at", "must not lie in the future")
    return await history.moment_at(within(tx), caller, at)


async def _past_part(
    tx: Connection, caller: Caller, moment: Moment, wanted: PastFilter, *, after: int
) -> tuple[tuple[PastImage, ...], tuple[RegistryVerdict, ...]]:
    return await history.list_as_of(within(tx), caller, moment, wanted, after=after, limit=PART)


async def _past_parts(
    tx: Connection,
    caller: Caller,
    moment: Moment,
    wanted: PastFilter,
    found: tuple[PastImage, ...],
) -> AsyncGenerator[tuple[PastImage, ...], None]:
    while found:
        yield found
        if len(found) < PART:
            return
        found, _ = await _past_part(tx, caller, moment, wanted, after=found[-1].id)


def _is_asked(wanted: PastFilter, registry: RegistryVerdict) -> bool:
    return wanted.registry in {None, registry.name} and wanted.kind in {None, registry.kind}
