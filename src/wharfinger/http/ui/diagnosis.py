"""What the doctor found, in the viewer's words."""

from __future__ import annotations

import msgspec

from wharfinger.domain.examination import Diagnosis, Grade, Observation, Phrase
from wharfinger.http.ui.words import Words


class Told(msgspec.Struct, frozen=True, kw_only=True):
    """One check as its row shows it; ``quoted`` is what a failure says itself, in English."""

    check: str
    grade: Grade
    said: str
    quoted: str
    advice: str


def told(found: Diagnosis, words: Words) -> list[Told]:
    """Put what was found into words."""
    return [_told(one, words) for one in found.observations]


def _told(one: Observation, words: Words) -> Told:
    return Told(
        check=words(f"doctor.{one.check}"),
        grade=one.grade,
        said=_said(one, words),
        quoted=one.told,
        advice="" if one.advice is None else _advice(one.advice, words),
    )


def _said(one: Observation, words: Words) -> str:
    if one.error_code is None:
        return words("doctor.and").join(_worded(phrase, words) for phrase in one.said)
    key = f"reasons.{one.error_code}"
    return words(key) if words.has(key) else one.error_code


def _advice(code: str, words: Words) -> str:
    own = f"doctor.advice_{code}"
    return words(own if words.has(own) else f"reasons.{code}_advice")


def _worded(phrase: Phrase, words: Words) -> str:
    values = {
        name: _worded(value, words) if isinstance(value, Phrase) else value
        for name, value in phrase.values.items()
    }
    return words(f"doctor.said_{phrase.code}", **values)
