"""The budgets of hosts in the database: shared out, learned, and silent about who has what."""

import asyncio

import psycopg
import pytest

from wharfinger.store.database import connection_options
from wharfinger.store.pacing import Report, SharedBudgets

HOST = "r.example:443"


def a_process(database, *, start=16, lease_s=6.0):
    return SharedBudgets(database, start=start, lease_s=lease_s)


def report(asks=100, holds=0, **rest):
    return Report(asks=asks, holds=holds, allowed=rest.pop("allowed", holds), **rest)


async def refused(process, share, **rest):
    return await process.renew(HOST, report(trouble="throttled", trouble_epoch=share.epoch, **rest))


async def with_a_rate(process, *, answered=20):
    """Refuse until the host is known to limit requests per second."""
    share = await process.renew(HOST, report())
    while share.rate is None:
        share = await refused(process, share, answered=answered)
    return share


# --- places --------------------------------------------------------------------------------------


async def test_a_process_alone_may_use_all_places(database):
    share = await a_process(database).renew(HOST, report(asks=1))

    assert (share.places, share.rate, share.paused_s) == (16, None, 0)


async def test_a_second_process_gets_half_once_the_first_has_heard_of_it(database):
    first, second = a_process(database), a_process(database)
    await first.renew(HOST, report())

    early = await second.renew(HOST, report())
    told = await first.renew(HOST, report(holds=16))
    between = await second.renew(HOST, report())
    await first.renew(HOST, report(holds=8, allowed=told.places))
    late = await second.renew(HOST, report())

    assert (early.places, told.places, between.places, late.places) == (0, 8, 0, 8)


async def test_what_one_does_not_ask_for_another_may_use(database):
    modest, greedy = a_process(database), a_process(database)
    await modest.renew(HOST, report(asks=2, holds=2))
    await greedy.renew(HOST, report())
    told = await modest.renew(HOST, report(asks=2, holds=2))
    await modest.renew(HOST, report(asks=2, holds=2, allowed=told.places))

    share = await greedy.renew(HOST, report())

    assert told.places == 2
    assert share.places == 14


async def test_fewer_places_than_processes_go_round(database):
    processes = [a_process(database, start=1) for _ in range(2)]
    served = set()
    async with asyncio.timeout(30):
        while len(served) < 2:
            for number, process in enumerate(processes):
                share = await process.renew(HOST, report(asks=1))
                if share.places:
                    served.add(number)
            await asyncio.sleep(0.1)

    assert served == {0, 1}


async def test_a_dead_process_loses_its_places_when_its_lease_ends(database):
    dead, alive = a_process(database, lease_s=0.3), a_process(database)
    await dead.renew(HOST, report(holds=16))
    before = await alive.renew(HOST, report())

    await asyncio.sleep(0.35)

    assert before.places == 0
    assert (await alive.renew(HOST, report())).places == 16


async def test_a_process_that_leaves_gives_its_places_back_at_once(database):
    leaving, staying = a_process(database), a_process(database)
    await leaving.renew(HOST, report(holds=16))

    await leaving.leave(HOST)

    assert (await staying.renew(HOST, report())).places == 16


# --- concurrency ---------------------------------------------------------------------------------


async def test_trouble_halves_for_all_and_once_for_what_was_under_way_together(database):
    one, other = a_process(database), a_process(database)
    await one.renew(HOST, report())
    seen = await other.renew(HOST, report())

    first = await one.renew(HOST, report(trouble="trouble", trouble_epoch=seen.epoch))
    again = await other.renew(HOST, report(trouble="trouble", trouble_epoch=seen.epoch))

    # Eight are left, for two.
    assert first.places == 4
    assert again.epoch == first.epoch


async def test_successes_with_all_places_in_use_let_it_grow_back_and_a_restart_remembers(database):
    process = a_process(database)
    share = await process.renew(HOST, report())
    share = await process.renew(HOST, report(trouble="trouble", trouble_epoch=share.epoch))
    idle = await process.renew(HOST, report(asks=2, grown=8))

    grown = await process.renew(HOST, report(holds=8, grown=16))
    await process.leave(HOST)
    restarted = await a_process(database).renew(HOST, report())

    assert (share.places, idle.places, grown.places, restarted.places) == (8, 8, 10, 10)


async def test_a_larger_setting_counts_at_once_for_a_host_that_never_complained(database):
    await a_process(database, start=4).renew(HOST, report())

    other = a_process(database, start=64)

    # Two ask, so half of them each.
    assert (await other.renew(HOST, report())).places == 32


# --- rate ----------------------------------------------------------------------------------------


async def test_refusals_at_low_concurrency_teach_a_rate_from_what_had_passed(database):
    process = a_process(database)

    share = await with_a_rate(process, answered=20)

    assert share.rate == pytest.approx(18)
    assert share.places == 8
    assert 0.9 < share.paused_s <= 1


async def test_what_others_report_a_moment_later_corrects_the_first_guess(database):
    first, second = a_process(database), a_process(database)
    await second.renew(HOST, report())
    await with_a_rate(first, answered=5)

    share = await second.renew(HOST, report(answered=15))

    assert share.rate == pytest.approx(18)


async def test_trouble_other_than_refusal_teaches_no_rate(database):
    process = a_process(database, start=2)
    share = await process.renew(HOST, report())

    for _ in range(4):
        share = await process.renew(HOST, report(trouble="trouble", trouble_epoch=share.epoch))

    assert (share.rate, share.places) == (None, 1)


async def test_a_limit_that_the_host_names_is_believed(database):
    process = a_process(database)
    share = await process.renew(HOST, report())

    share = await refused(process, share, answered=200, stated_rate=2.0)

    assert share.rate == pytest.approx(1.94)


async def test_times_to_begin_are_given_once_and_evenly_over_all_processes(database):
    one, other = a_process(database), a_process(database)
    share = await with_a_rate(one)
    await other.renew(HOST, report())
    await asyncio.sleep(share.paused_s)

    shares = [await process.renew(HOST, report(slots=3)) for process in (one, other, one)]

    starts = [share.first_slot_s for share in shares if share.slots]
    assert [share.slots for share in shares] == [3, 3, 3]
    assert starts[1] - starts[0] == pytest.approx(3 / 18, abs=0.04)
    assert starts[2] - starts[1] == pytest.approx(3 / 18, abs=0.04)


async def test_a_rate_grows_slowly_while_requests_wait_for_it_and_not_otherwise(
    database, owner_connection
):
    process = a_process(database)
    await with_a_rate(process)
    owner_connection.execute("UPDATE host_budget SET paused_until = NULL, next_slot_at = NULL")
    await process.renew(HOST, report(slots=1))
    idle = owner_connection.execute("SELECT rate FROM host_budget").fetchone()[0]

    owner_connection.execute(
        "UPDATE host_budget SET rate_at = now() - interval '1 second',"
        " next_slot_at = now() + interval '0.1 seconds'"
    )
    share = await process.renew(HOST, report(slots=1))

    assert idle == pytest.approx(18)
    assert share.rate == pytest.approx(18 * 1.01, rel=0.003)


async def test_a_refusal_at_a_rate_lowers_it_a_little(database, owner_connection):
    process = a_process(database)
    share = await with_a_rate(process)
    owner_connection.execute(
        "UPDATE host_budget SET rate = 20.4, eased_at = now() - interval '5 seconds',"
        " paused_until = NULL"
    )

    share = await refused(process, share, answered=20)

    assert share.rate == pytest.approx(19)
    assert share.paused_s == 0


# --- pauses --------------------------------------------------------------------------------------


async def test_a_pause_holds_for_every_process_and_is_never_shortened(database):
    one, other = a_process(database), a_process(database)

    await one.renew(HOST, report(pause_s=30))
    await one.renew(HOST, report(pause_s=3))

    assert 29 < (await other.renew(HOST, report())).paused_s <= 30
    assert (await other.renew("elsewhere.example:443", report())).paused_s == 0


# --- who may know --------------------------------------------------------------------------------


async def test_the_database_does_not_tell_which_hosts_there_are(database, owner_connection):
    await a_process(database).renew(HOST, report())

    rows = owner_connection.execute(
        "SELECT b::text || l::text FROM host_budget b, host_lease l"
    ).fetchall()

    assert len(rows) == 1
    assert "example" not in rows[0][0]
    columns = owner_connection.execute(
        "SELECT attname FROM pg_attribute WHERE attrelid IN"
        " ('host_budget'::regclass, 'host_lease'::regclass) AND attnum > 0"
    ).fetchall()
    assert not {"project_id", "registry_id"} & {name for (name,) in columns}


@pytest.mark.parametrize(
    "attempt",
    [
        "TABLE host_budget",
        "TABLE host_lease",
        "UPDATE host_budget SET paused_until = 'infinity'",
        "SELECT due_share('', gen_random_uuid(), 1, now())",
    ],
)
def test_the_application_asks_for_one_host_and_cannot_list_them(database_address, attempt):
    options = connection_options(database_address.app)
    with (
        psycopg.connect(database_address.app, options=options) as connection,
        pytest.raises(psycopg.errors.InsufficientPrivilege),
    ):
        connection.execute(attempt)
