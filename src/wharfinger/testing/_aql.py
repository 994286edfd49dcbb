"""Artifactory's query language, as far as it asks for items: read from text, applied to rows.

Facts from JFrog's reference "Artifactory Query Language": criteria are JSON with an implied
``$and``; ``*`` and ``?`` are wildcards in ``$match`` and ``$nmatch`` only; ``sort``, ``offset``
and ``limit`` follow in this order; rows that the caller may not see are taken out *after* the
limit was applied.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Row = Mapping[str, Any]

FIELDS = frozenset(
    {"repo", "path", "name", "type", "size", "created", "modified", "updated", "sha256"}
)
_DEFAULT = ("repo", "path", "name", "type", "size", "created", "modified", "updated")
_STEP = re.compile(r"\s*\.\s*(include|sort|offset|limit)\s*\(")


class BadQueryError(ValueError):
    """The text is no query for items."""


@dataclass(kw_only=True)
class Query:
    """A query for items."""

    criteria: Any
    include: Sequence[str] = _DEFAULT
    sort: Sequence[str] = ()
    descending: bool = False
    offset: int = 0
    limit: int | None = None
    steps: list[str] = field(default_factory=list)

    def matches(self, row: Row) -> bool:
        """Whether a row is asked for."""
        return _holds(self.criteria, row)


def parse(text: str) -> Query:
    """Read ``items.find({…}).include(…).sort(…).offset(…).limit(…)``.

    Raises:
        BadQueryError: it is something else.
    """
    head = re.match(r"\s*items\.find\s*\(", text)
    if head is None:
        raise BadQueryError(text[:60])
    arguments, at = _arguments(text, head.end())
    query = Query(criteria={"$and": arguments})
    while step := _STEP.match(text, at):
        values, at = _arguments(text, step.end())
        query.steps.append(step[1])
        _apply(query, step[1], values)
    if text[at:].strip():
        raise BadQueryError(text[at : at + 60])
    return query


def _arguments(text: str, at: int) -> tuple[list[Any], int]:
    """Read JSON values up to the closing bracket; returns them and where the text goes on."""
    decoder = json.JSONDecoder()
    values: list[Any] = []
    while True:
        at = _skip(text, at)
        if text[at : at + 1] == ")":
            return values, at + 1
        try:
            value, at = decoder.raw_decode(text, at)
        except ValueError as exc:
            raise BadQueryError(text[at : at + 60]) from exc
        values.append(value)
        at = _skip(text, at)
        if text[at : at + 1] == ",":
            at += 1


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at].isspace():
        at += 1
    return at


def _apply(query: Query, step: str, values: list[Any]) -> None:
    if step == "include":
        if not set(values) <= FIELDS:
            raise BadQueryError(f"include{values}")
        query.include = values
    elif step == "sort":
        ((order, fields),) = values[0].items()
        query.sort, query.descending = fields, order == "$desc"
    elif step == "offset":
        query.offset = int(values[0])
    else:
        query.limit = int(values[0])


_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "$eq": lambda a, b: bool(a == b),
    "$ne": lambda a, b: bool(a != b),
    "$gt": lambda a, b: bool(a > b),
    "$gte": lambda a, b: bool(a >= b),
    "$lt": lambda a, b: bool(a < b),
    "$lte": lambda a, b: bool(a <= b),
    "$match": lambda a, b: _wild(b).fullmatch(a) is not None,
    "$nmatch": lambda a, b: _wild(b).fullmatch(a) is None,
}


def _wild(pattern: str) -> re.Pattern[str]:
    parts = {"*": ".*", "?": "."}
    return re.compile("".join(parts.get(c) or re.escape(c) for c in pattern), re.DOTALL)


def _holds(criteria: Mapping[str, Any], row: Row) -> bool:
    return all(_criterion(name, wanted, row) for name, wanted in criteria.items())


def _criterion(name: str, wanted: Any, row: Row) -> bool:
    if name in ("$and", "$or"):
        found = [_holds(one, row) for one in wanted]
        return all(found) if name == "$and" else any(found)
    if name not in FIELDS:
        raise BadQueryError(name)
    if not isinstance(wanted, dict):
        wanted = {"$eq": wanted}
    if not set(wanted) <= set(_COMPARISONS):
        raise BadQueryError(str(wanted))
    return all(_COMPARISONS[operator](row[name], value) for operator, value in wanted.items())
