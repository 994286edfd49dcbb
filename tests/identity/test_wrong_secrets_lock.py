"""Who fails too often is locked, for a while, and nobody else is."""

import pytest

from wharfinger.identity.locks import FAILURES, LOCKED_S, Locks


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def locks(clock):
    return Locks(clock=clock, most_entries=100)


def fail(locks, name, source, times=FAILURES):
    for _ in range(times):
        locks.failed(name, source)


def test_the_fifth_failure_locks(locks):
    fail(locks, "AK", "192.0.2.1", times=4)
    assert not locks.is_locked("AK", "192.0.2.1")

    fail(locks, "AK", "192.0.2.1", times=1)
    assert locks.is_locked("AK", "192.0.2.1")


def test_a_stranger_locks_out_only_the_stranger(locks):
    fail(locks, "AK", "192.0.2.1")

    assert not locks.is_locked("AK", "192.0.2.2")
    assert not locks.is_locked("AKOTHER", "192.0.2.1")


def test_a_lock_ends_by_itself_and_is_not_made_longer_by_asking(locks, clock):
    fail(locks, "AK", "192.0.2.1")
    clock.now = LOCKED_S - 1
    assert locks.is_locked("AK", "192.0.2.1")

    clock.now = LOCKED_S
    assert not locks.is_locked("AK", "192.0.2.1")
    fail(locks, "AK", "192.0.2.1", times=4)
    assert not locks.is_locked("AK", "192.0.2.1")


def test_a_success_forgets_the_failures_before_it(locks):
    fail(locks, "AK", "192.0.2.1", times=4)
    locks.succeeded("AK", "192.0.2.1")
    fail(locks, "AK", "192.0.2.1", times=4)

    assert not locks.is_locked("AK", "192.0.2.1")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("2001:db8::1", "2001:db8::ffff", True),
        ("2001:db8:0:1::1", "2001:db8:0:2::1", False),
        ("::ffff:192.0.2.1", "192.0.2.1", True),
        ("unix", "unix", True),
    ],
)
def test_an_ipv6_host_is_its_network(locks, one, other, same):
    fail(locks, "AK", one)

    assert locks.is_locked("AK", other) is same


def test_what_is_kept_is_bounded(locks):
    for number in range(200):
        locks.failed("AK", f"192.0.2.{number}")

    assert len(locks._records) == 100
