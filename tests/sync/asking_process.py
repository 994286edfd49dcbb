"""A process that asks one URL so many times over the shared budgets, and prints how that went."""

import asyncio
import json
import sys
import time

from wharfinger.domain.errors import ThrottledError
from wharfinger.domain.ports import Request
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._http import AioTransport
from wharfinger.sources._reading import raise_for_status
from wharfinger.store.database import Database, DatabaseAddress
from wharfinger.store.pacing import SharedBudgets
from wharfinger.sync.pacing import PacedHttp
from wharfinger.sync.shares import LEASE_S, LeasedBudgets


async def main(app, url, count, tasks, start):
    database = Database(DatabaseAddress(owner="", app=app), max_connections=2)
    await database.open()
    budgets = LeasedBudgets(SharedBudgets(database, start=start, lease_s=LEASE_S))
    transport = AioTransport(AddressPolicy(allow_private=True))
    http = PacedHttp(transport, budgets)
    left = count
    refused = []
    print("ready", flush=True)
    sys.stdin.readline()
    began = time.time()

    def read(reply):
        try:
            raise_for_status(reply)
        except ThrottledError:
            refused.append(time.time())
            raise

    async def ask():
        nonlocal left
        while left:
            left -= 1
            await http.call(Request(method="GET", url=url), read)

    try:
        await asyncio.gather(*(ask() for _ in range(tasks)))
    finally:
        took = time.time() - began
        await transport.aclose()
        await budgets.aclose()
        await database.close()
    print(json.dumps({"took": took, "began": began, "requests": http.requests, "refused": refused}))


if __name__ == "__main__":
    app, url, *numbers = sys.argv[1:]
    asyncio.run(main(app, url, *map(int, numbers)))
