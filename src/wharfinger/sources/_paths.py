"""A repository's path and its two halves; what stands before the first slash is the namespace.

And what may stand for several paths: ``{a,b}`` and ``{1..9}`` name them all, ``*`` and ``?`` find
them in a list.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

from wharfinger.domain.errors import InvalidParameterError, UnexpectedAnswerError
from wharfinger.domain.model import RepositoryName, RepositoryRef

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d{1,5})\.\.(\d{1,5})")
_OPTION = "options.repositories"
# More requests than this, one for each name and sync, nobody wants to pay for guesses.
MOST_NAMES = 10_000


def is_pattern(path: str) -> bool:
    """Whether only a list can tell which paths it stands for."""
    return "*" in path or "?" in path


def spelled_out(paths: Sequence[str]) -> tuple[str, ...]:
    """Return the paths with what their braces stand for, each once, in order.

    Raises:
        InvalidParameterError: they are too many, or a range goes down.
    """
    every = itertools.chain.from_iterable(map(_spelled_out, paths))
    names = list(itertools.islice(every, MOST_NAMES + 1))
    if len(names) > MOST_NAMES:
        raise InvalidParameterError(_OPTION, f"must stand for at most {MOST_NAMES} names")
    return tuple(dict.fromkeys(names))


def _spelled_out(path: str) -> Iterator[str]:
    # Literal text and what is in braces take turns.
    parts = enumerate(_BRACES.split(path))
    choices = [_choices(text) if number % 2 else (text,) for number, text in parts]
    return map("".join, itertools.product(*choices))


def _choices(braces: str) -> Sequence[str]:
    limits = _RANGE.fullmatch(braces)
    if limits is None:
        return braces.split(",")
    first, last = limits.groups()
    if int(first) > int(last):
        raise InvalidParameterError(_OPTION, f"{{{braces}}} must go from the smaller number up")
    # Written as the first is: {01..12} has two digits throughout.
    width = len(first) if first.startswith("0") else 0
    return [f"{number:0{width}}" for number in range(int(first), int(last) + 1)]


def split_path(path: str) -> RepositoryName:
    """Return namespace and name; a path without a slash has no namespace."""
    namespace, slash, name = path.partition("/")
    return RepositoryName(namespace=namespace if slash else "", name=name if slash else path)


def repository_at(path: str) -> RepositoryRef:
    """Return the repository of a path that a registry lists.

    Raises:
        UnexpectedAnswerError: a half of it is missing.
    """
    split = split_path(path)
    if not split.name or ("/" in path and not split.namespace):
        raise UnexpectedAnswerError(f"the registry lists {path!r}, which is no repository name")
    return RepositoryRef(namespace=split.namespace, name=split.name)


def path_of(repository: RepositoryRef) -> str:
    """Return the path again."""
    return "/".join(filter(None, (repository.namespace, repository.name)))
