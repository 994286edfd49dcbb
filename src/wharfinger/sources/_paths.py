"""A repository's path and its two halves; what stands before the first slash is the namespace."""

from __future__ import annotations

from wharfinger.domain.errors import UnexpectedAnswerError
from wharfinger.domain.model import RepositoryName, RepositoryRef


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
