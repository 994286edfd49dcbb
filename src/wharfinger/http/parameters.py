"""Reads query parameters; each complaint names the parameter and what would be accepted."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.signature import query_pairs

MAX_INT64 = 9223372036854775807
_DIGITS = re.compile(r"[0-9]{1,19}")


class Parameters:
    """The query of one request, decoded as the signature decodes it.

    Parameters nobody asks for are ignored, since real clients of HSS send more than the contract
    knows; our own API refuses them (``http.api.asked``).
    One that is asked for may be given once.

    Raises:
        InvalidParameterError: from every method, for a value outside the range it is given.
    """

    def __init__(self, raw_query: bytes) -> None:
        self._values: dict[str, list[str]] = defaultdict(list)
        for name, value in query_pairs(raw_query.decode("ascii", "surrogateescape")):
            self._values[name].append(value)

    def names(self) -> tuple[str, ...]:
        """Return the names of all that is given, in order."""
        return tuple(self._values)

    def without_blanks(self) -> Parameters:
        """Return what is given without blank values: a form sends those that are not filled in."""
        found = Parameters(b"")
        for name, values in self._values.items():
            if kept := [value for value in values if value]:
                found._values[name] = kept
        return found

    def pairs(self) -> list[tuple[str, str]]:
        """Return names and values as they are given."""
        return [(name, value) for name, values in self._values.items() for value in values]

    def raw(self, name: str) -> str | None:
        """Return the value as it is, or ``None`` where the parameter is not given."""
        values = self._values.get(name)
        if not values:
            return None
        if len(values) > 1:
            raise InvalidParameterError(name, "must be given once")
        return values[0]

    def all(self, name: str, *, longest: int, most: int) -> tuple[str, ...]:
        """Return every value of a parameter that may be given ``most`` times."""
        values = self._values.get(name, [])
        if len(values) > most:
            raise InvalidParameterError(name, f"must be given at most {most} times")
        return tuple(checked_text(name, value, longest) for value in values)

    def text_of_all(self) -> str:
        """Return everything that is given, in one spelling, whatever its order was."""
        return repr(sorted((name, *values) for name, values in self._values.items()))

    def text(self, name: str, *, longest: int, shortest: int = 1) -> str | None:
        """Return a text of ``shortest`` to ``longest`` characters."""
        value = self.raw(name)
        return None if value is None else checked_text(name, value, longest, shortest)

    def integer(self, name: str, *, smallest: int, largest: int) -> int | None:
        """Return a whole number in a range."""
        value = self.raw(name)
        if value is None:
            return None
        number = int(value) if _DIGITS.fullmatch(value) else -1
        if not smallest <= number <= largest:
            raise InvalidParameterError(name, f"must be an integer from {smallest} to {largest}")
        return number

    def flag(self, name: str) -> bool | None:
        """Return ``true`` or ``false``."""
        value = self.choice(name, ("true", "false"))
        return None if value is None else value == "true"

    def choice(self, name: str, allowed: Collection[str]) -> str | None:
        """Return one of a few words."""
        value = self.raw(name)
        return None if value is None else checked_choice(name, value, allowed)

    def choices(self, name: str, allowed: Collection[str]) -> tuple[str, ...] | None:
        """Return some of a few words, given as a list with commas."""
        value = self.raw(name)
        if value is None:
            return None
        return tuple(checked_choice(name, part.strip(), allowed) for part in value.split(","))


def checked_text(name: str, value: str, longest: int, shortest: int = 1) -> str:
    """Return a text that is no shorter, no longer, and storable.

    Raises:
        InvalidParameterError: it is not.
    """
    if not shortest <= len(value) <= longest:
        raise InvalidParameterError(name, f"must be {shortest} to {longest} characters")
    if "\0" in value or any("\ud800" <= char <= "\udfff" for char in value):
        raise InvalidParameterError(name, "must be UTF-8 text without NUL characters")
    return value


def checked_choice(name: str, value: str, allowed: Collection[str]) -> str:
    """Return a word that is among those allowed.

    Raises:
        InvalidParameterError: it is not.
    """
    if value not in allowed:
        raise InvalidParameterError(name, f"must be {' or '.join(allowed)}")
    return value
