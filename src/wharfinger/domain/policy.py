"""What a caller may do: policies in the cloud's JSON form, and how they are weighed."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from wharfinger.domain.errors import InvalidParameterError

# Of roles and policies, and of identity policies.
VERSIONS = ("1.1", "5.0")
MOST_STATEMENTS = 8
MOST_ACTIONS = 100
_IDENTITY = "5.0"
_ACTION = re.compile(r"[A-Za-z0-9_*-]{1,64}(:[A-Za-z0-9_*-]{1,64}){2}")


class Statement(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """Allows or denies actions; ``*`` stands for any text within one of an action's three parts."""

    effect: str
    action: tuple[str, ...]

    def speaks_of(self, action: str) -> bool:
        """Whether one of its patterns matches. Letters match in either case."""
        return any(_matches(pattern, action) for pattern in self.action)


class Policy(msgspec.Struct, frozen=True, kw_only=True, rename="pascal"):
    """A policy's document."""

    version: str
    statement: tuple[Statement, ...]


def may(policies: Iterable[Policy], action: str, *, free: bool = False) -> bool:
    """Weigh policies: a Deny wins, then an Allow; what nobody mentions is not allowed.

    ``free`` marks an operation for which the cloud asks no permission of callers that are
    authorised by identity policies; those need no Allow for it.
    """
    held = list(policies)
    effects = {one.effect for p in held for one in p.statement if one.speaks_of(action)}
    if "Deny" in effects:
        return False
    return "Allow" in effects or (free and any(p.version == _IDENTITY for p in held))


def covers(held: Iterable[Policy], wanted: Iterable[Policy]) -> bool:
    """Whether whoever holds some policies may do all that others allow.

    It weighs what is written and not which operations there are today, so that it stays true of
    those to come. Where it cannot tell, it says no.
    """
    mine, theirs = _Written.of(held), _Written.of(wanted)
    return all(
        any(_matches(one, action) for one in mine.allowed) for action in theirs.allowed
    ) and all(
        any(_matches(one, action) for one in theirs.denied)
        for action in mine.denied
        if any(_meet(one, action) for one in theirs.allowed)
    )


class _Written(msgspec.Struct, frozen=True, kw_only=True):
    """The patterns of some policies taken together."""

    allowed: tuple[str, ...]
    denied: tuple[str, ...]

    @classmethod
    def of(cls, policies: Iterable[Policy]) -> _Written:
        held = list(policies)
        written = [(s.effect, action) for p in held for s in p.statement for action in s.action]
        # What an identity policy opens without saying so.
        free = ("hss:*:*",) if any(p.version == _IDENTITY for p in held) else ()
        return cls(
            allowed=(*free, *(action for effect, action in written if effect == "Allow")),
            denied=tuple(action for effect, action in written if effect == "Deny"),
        )


def read_policy(document: bytes | str) -> Policy:
    """Read a policy, and refuse what we would not weigh: conditions, and resources but ``*``.

    Raises:
        InvalidParameterError: the message names the part and what would be accepted.
    """
    try:
        raw = msgspec.json.decode(document, type=dict[str, Any])
        _refuse_what_is_not_weighed(raw)
        policy = msgspec.convert(raw, Policy)
    except msgspec.ValidationError as exc:
        what, _, where = str(exc).partition(" - at ")
        raise InvalidParameterError(where.strip("`").removeprefix("$.") or "policy", what) from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidParameterError("policy", f"must be JSON: {exc}") from exc
    _check(policy)
    return policy


def _refuse_what_is_not_weighed(raw: Mapping[str, Any]) -> None:
    if unknown := sorted(raw.keys() - {"Version", "Statement"}):
        raise InvalidParameterError(unknown[0], "is no part of a policy")
    statements = raw.get("Statement")
    for one in statements if isinstance(statements, list) else ():
        if not isinstance(one, dict):
            continue
        # A condition that is ignored would allow more than its author meant to.
        if unknown := sorted(one.keys() - {"Effect", "Action", "Resource"}):
            raise InvalidParameterError(f"Statement.{unknown[0]}", "is not supported here")
        if one.get("Resource", ["*"]) not in (["*"], "*"):
            raise InvalidParameterError("Statement.Resource", 'must be ["*"] or be left out')


def _check(policy: Policy) -> None:
    if policy.version not in VERSIONS:
        raise InvalidParameterError("Version", f"must be {' or '.join(VERSIONS)}")
    if not 1 <= len(policy.statement) <= MOST_STATEMENTS:
        raise InvalidParameterError("Statement", f"must hold 1 to {MOST_STATEMENTS}")
    for one in policy.statement:
        if one.effect not in ("Allow", "Deny"):
            raise InvalidParameterError("Statement.Effect", "must be Allow or Deny")
        if not 1 <= len(one.action) <= MOST_ACTIONS:
            raise InvalidParameterError("Statement.Action", f"must hold 1 to {MOST_ACTIONS}")
        for action in one.action:
            if not _ACTION.fullmatch(action):
                raise InvalidParameterError(
                    "Statement.Action", "must read service:resource:operation, * for any text"
                )


def _matches(pattern: str, action: str) -> bool:
    wanted, given = pattern.lower().split(":"), action.lower().split(":")
    return len(wanted) == len(given) and all(map(_part_matches, wanted, given))


def _part_matches(pattern: str, part: str) -> bool:
    # Not a regular expression: many stars over a long text would take for ever.
    first, *rest = pattern.split("*")
    if not rest:
        return pattern == part
    *middle, last = rest
    if len(part) < len(first) + len(last):
        return False
    if not part.startswith(first) or not part.endswith(last):
        return False
    at, end = len(first), len(part) - len(last)
    for piece in middle:
        at = part.find(piece, at, end)
        if at < 0:
            return False
        at += len(piece)
    return True


def _meet(one: str, other: str) -> bool:
    """Whether there may be an action that both patterns match."""
    return all(map(_parts_meet, one.lower().split(":"), other.lower().split(":")))


def _parts_meet(one: str, other: str) -> bool:
    if "*" not in one:
        return _part_matches(other, one)
    if "*" not in other:
        return _part_matches(one, other)
    # The stars between let anything be put together; the ends are what must agree.
    heads = one.partition("*")[0], other.partition("*")[0]
    tails = one.rpartition("*")[2], other.rpartition("*")[2]
    return max(heads, key=len).startswith(min(heads, key=len)) and max(tails, key=len).endswith(
        min(tails, key=len)
    )


def _allowing(*actions: str) -> Policy:
    statement = Statement(effect="Allow", action=actions)
    return Policy(version="1.1", statement=(statement,))


ADMINISTRATOR = _allowing("*:*:*")
SYSTEM_POLICIES: Mapping[str, Policy] = {
    # Everything, also over other users' tokens.
    "administrator": ADMINISTRATOR,
    # Everything that concerns images; not who else may see them.
    "full-access": _allowing("hss:*:*", "wharfinger:*:*", "eps:*:list", "eps:*:get"),
    "read-only": _allowing(
        *(
            f"{service}:*:{verb}"
            for service in ("hss", "wharfinger", "eps")
            for verb in ("list", "get")
        )
    ),
}
