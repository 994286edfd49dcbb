"""Brings every stored secret under the newest key."""

from __future__ import annotations

from typing import LiteralString

from wharfinger.domain.model import OURSELVES, Caller
from wharfinger.store import audit
from wharfinger.store.callers import Callers, credential_context
from wharfinger.store.database import Connection, Database, all_rows
from wharfinger.store.named_sql import queries
from wharfinger.store.registries import registry_context
from wharfinger.store.sealing import Sealer
from wharfinger.store.webhooks import every_sealed, webhook_context

_SQL = queries("identity")
_WEBHOOKS = queries("webhooks")


class Resealing:
    """Re-seals secrets while everything else goes on; a secret changed meanwhile is left alone."""

    def __init__(self, database: Database, callers: Callers, sealer: Sealer) -> None:
        self._database = database
        self._callers = callers
        self._sealer = sealer

    async def rotate(self, *, drop_old: bool = False, by: Caller = OURSELVES) -> int:
        """Add a key, re-seal everything under it, and return how many secrets that were.

        It concerns every project, so each one's audit tells of it.

        The key before it stays in the file, for a process that has just sealed something under
        it, until the next rotation; ``drop_old`` removes it at once. Keys before that one go.

        Raises:
            SetupError: a secret cannot be opened, or the key file cannot be written.
        """
        before = self._sealer.newest
        self._sealer.add_key()
        done = await self._reseal_all(by)
        # What was written under the old key while the first pass was under way.
        done += await self._reseal_all(None)
        self._sealer.drop_keys(but=() if drop_old else (before,))
        return done

    async def _reseal_all(self, by: Caller | None) -> int:
        done = 0
        for project in await self._callers.list_projects():
            async with self._database.tenant(project.id) as connection:
                resealed = await self._credentials(connection, project.id)
                resealed += await self._registries(connection, project.id)
                resealed += await self._webhooks(connection, project.id)
                if by is not None:
                    await audit.record(
                        connection,
                        by,
                        "secret_key.rotate",
                        target=f"secret_key {self._sealer.newest}",
                        details={"resealed": resealed},
                    )
            done += resealed
        return done

    async def _credentials(self, connection: Connection, project_id: str) -> int:
        done = 0
        after: str | None = None
        while True:
            rows = await all_rows(connection, _SQL["sealed_credentials"], {"after": after})
            if not rows:
                return done
            after = rows[-1]["access_key"]
            for row in rows:
                context = credential_context(project_id, row["access_key"])
                values = {"access_key": row["access_key"]}
                done += await self._one(
                    connection, _SQL["reseal_credential"], row["secret_sealed"], context, values
                )

    async def _registries(self, connection: Connection, project_id: str) -> int:
        done = 0
        for row in await all_rows(connection, _SQL["sealed_registries"]):
            context = registry_context(project_id, str(row["id"]))
            values = {"registry": row["id"]}
            done += await self._one(
                connection, _SQL["reseal_registry"], row["credential_sealed"], context, values
            )
        return done

    async def _webhooks(self, connection: Connection, project_id: str) -> int:
        done = 0
        for webhook_id, sealed in await every_sealed(connection, project_id):
            context = webhook_context(project_id, webhook_id)
            values: dict[str, object] = {"webhook": webhook_id}
            done += await self._one(connection, _WEBHOOKS["reseal"], sealed, context, values)
        return done

    async def _one(
        self,
        connection: Connection,
        query: LiteralString,
        sealed: bytes,
        context: bytes,
        values: dict[str, object],
    ) -> int:
        before = bytes(sealed)
        if self._sealer.is_current(before):
            return 0
        secret = self._sealer.unseal(before, context=context)
        again = self._sealer.seal(secret, context=context)
        cursor = await connection.execute(query, {**values, "before": before, "sealed": again})
        return cursor.rowcount
