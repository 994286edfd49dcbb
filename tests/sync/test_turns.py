"""The units of all projects wait in one queue, and take turns there."""

import pytest
from procrastinate import PsycopgConnector

from wharfinger.store.database import connection_options
from wharfinger.sync.queue import QUEUE, SyncQueue

RUN = "00000000-0000-0000-0000-000000000000"


@pytest.fixture
async def line(database, database_address):
    """The queue as workers see it, with none at work."""
    connector = PsycopgConnector(
        conninfo=database_address.app,
        kwargs={"options": connection_options(database_address.app)},
    )
    queue = SyncQueue(connector)
    async with queue.app.open_async():
        yield Line(queue, database)


class Line:
    def __init__(self, queue, database):
        self._queue = queue
        self._database = database
        self._units = 0

    async def enqueue(self, project, count):
        units = range(self._units, self._units + count)
        self._units += count
        async with self._database.system() as tx:
            await self._queue.read(tx, project_id=project, run_id=RUN, units=units)

    async def take(self, count):
        """Whose units the next jobs are, as workers get them."""
        jobs = self._queue.app.job_manager
        worker = await jobs.register_worker()
        taken = [await jobs.fetch_job(queues=[QUEUE], worker_id=worker) for _ in range(count)]
        return [job.task_kwargs["project_id"] for job in taken]


async def test_a_few_units_do_not_wait_behind_another_projects_hundreds(line):
    await line.enqueue("many", 300)
    assert await line.take(100) == ["many"] * 100

    await line.enqueue("few", 10)

    taken = await line.take(20)
    assert taken.count("few") == 10


async def test_hundreds_of_units_do_not_wait_for_ever_behind_ever_new_ones(line):
    await line.enqueue("many", 60)
    taken = []
    for number in range(20):
        await line.enqueue(f"new-{number}", 3)
        taken += await line.take(3)

    # By then they share with a dozen others who wait as well; behind them it would be three.
    assert taken.count("many") >= 8


async def test_the_units_of_one_project_are_read_in_their_order(line):
    await line.enqueue("one", 5)
    await line.enqueue("other", 2)
    await line.enqueue("one", 5)

    assert await line.take(12) == ["one", "other", "one", "other", *["one"] * 8]
