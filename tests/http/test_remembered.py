"""Answers are kept up to a size, and those asked for last stay."""

from __future__ import annotations

from wharfinger.http.remembered import Remembered

KB = 1024


def test_the_answers_that_were_asked_for_last_stay():
    remembered = Remembered(most_bytes=10 * KB)
    for name in ("first", "second", "third"):
        remembered.keep(name, b"x" * 2 * KB)
    assert remembered.get("first") == b"x" * 2 * KB

    remembered.keep("fourth", b"y" * 2 * KB)

    kept = {n for n in ("first", "second", "third", "fourth") if remembered.get(n) is not None}
    assert kept == {"first", "third", "fourth"}


def test_an_answer_kept_anew_takes_its_room_once():
    remembered = Remembered(most_bytes=10 * KB)
    remembered.keep("other", b"x" * 2 * KB)

    for _ in range(20):
        remembered.keep("one", b"y" * 4 * KB)

    assert remembered.get("other") is not None
    assert remembered.get("one") is not None


def test_a_very_long_answer_is_not_kept():
    remembered = Remembered()

    remembered.keep("all", b"x" * (2 * KB * KB))

    assert remembered.get("all") is None
