"""SWR basic edition, v2 and v3, over a world: routes, parameters, paging and error bodies."""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from urllib.parse import unquote

import msgspec

from wharfinger.testing import swr_rows as rows
from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.model import Account, Repository, Tag, UnknownNameError, World
from wharfinger.testing.swr_wire import (
    SwrRefusedError,
    bad_query,
    boolean,
    error_answer,
    number,
)

T = TypeVar("T")

DEFAULT_LIMIT = 100
MAX_LIMIT = 1000

_ORGANISATION = re.compile(r"[a-z](?:[a-z0-9]|[._-](?=[a-z0-9]))*")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Call:
    """One request for SWR: who asks, the path's captured parts, and the parameters."""

    account: Account
    parts: tuple[str, ...]
    wishes: dict[str, str]


class Swr:
    """Answers SWR's management API.

    Attributes:
        strict_paging: refuse ``limit`` without ``offset`` and the reverse in v2, as the
            documentation words it; otherwise the missing one takes its default.
        default_order: how v2 sorts without ``order_column``.
        error_generation: which of the three error shapes is sent.
    """

    def __init__(self, world: World, *, error_generation: int = 3) -> None:
        self.strict_paging = True
        self.default_order = "updated_at"
        self.error_generation = error_generation
        self._world = world
        repos = r"/v2/manage/namespaces/([^/]+)/repos/([^/]+)"
        self._routes: list[tuple[str, re.Pattern[str], Callable[[_Call], Answer]]] = [
            ("GET", re.compile(r"/v2/manage/repos"), self._list_repositories),
            ("GET", re.compile(r"/v2/manage/shared-repositories"), self._list_shared),
            ("GET", re.compile(r"/v2/manage/namespaces"), self._list_namespaces),
            ("GET", re.compile(r"/v2/manage/projects/([^/]+)/quotas"), self._quotas),
            ("GET", re.compile(repos), self._show_repository),
            ("DELETE", re.compile(repos), self._delete_repository),
            ("GET", re.compile(repos + "/tags"), self._list_tags),
            ("GET", re.compile(repos + "/tags/([^/]+)"), self._show_tag),
            ("DELETE", re.compile(repos + "/tags/([^/]+)"), self._delete_tag),
            ("GET", re.compile(r"/v3/manage/repos"), self._list_repositories_v3),
            ("GET", re.compile(r"/v3/manage/shared-repositories"), self._list_shared_v3),
            (
                "GET",
                re.compile(r"/v3/manage/namespaces/([^/]+)/repos/([^/]+)/tags"),
                self._list_tags_v3,
            ),
        ]

    def respond(self, asked: Asked, account: Account) -> Answer | None:
        """The answer to a request of this account; ``None`` for a path SWR does not have."""
        # The gateway decodes once and then looks for its routes, so %24 is as good as $,
        # and %2F in a repository's name makes a path that nobody has published.
        path = unquote(asked.path)
        for method, pattern, route in self._routes:
            found = pattern.fullmatch(path.rstrip("/"))
            if method == asked.method and found is not None:
                return self._answer(route, account, found.groups(), asked.query)
        return None

    def _answer(
        self,
        route: Callable[[_Call], Answer],
        account: Account,
        parts: Sequence[str],
        query: str,
    ) -> Answer:
        try:
            call = _Call(account=account, parts=tuple(parts), wishes=_wishes(query))
            return route(call)
        except SwrRefusedError as refused:
            return self.error(refused.status, refused.code, refused.message)

    def error(self, status: int, code: str, message: str) -> Answer:
        """An error in the generation this server speaks."""
        return error_answer(status, code, message, generation=self.error_generation)

    # --- v2 ---------------------------------------------------------------------------------

    def _list_repositories(self, call: _Call) -> Answer:
        found = _matching(self._visible(call), call.wishes)
        ordered = self._ordered(found, call.wishes, _REPOSITORY_ORDER)
        page, given = self._offset_page(ordered, call.wishes, DEFAULT_LIMIT)
        shown = [rows.repository_row(self._world, r, len(ordered)) for r in page]
        return _with_range(json_answer(shown), given, len(page), len(ordered))

    def _visible(self, call: _Call) -> list[Repository]:
        owned = self._world.owned(call.account.name)
        public = call.wishes.get("is_public")
        if public is None:
            return owned
        return [r for r in owned if r.is_public == boolean("is_public", public)]

    def _list_shared(self, call: _Call) -> Answer:
        found, receiver = self._shared(call, "center")
        status = call.wishes.get("status")
        if status is not None and receiver is not None:
            wanted = boolean("status", status)
            found = [r for r in found if self._world.share_is_valid(r, receiver) == wanted]
        ordered = self._ordered(_matching(found, call.wishes), call.wishes, _REPOSITORY_ORDER)
        page, given = self._offset_page(ordered, call.wishes, None)
        shown = [rows.shared_row(self._world, r, receiver) for r in page]
        return _with_range(json_answer(shown), given, len(page), len(ordered))

    def _shared(self, call: _Call, parameter: str) -> tuple[list[Repository], str | None]:
        side = call.wishes.get(parameter)
        if side == "self":
            return self._world.shared_by(call.account.name), None
        if side == "thirdparty":
            lent = self._world.shared_with(call.account.name)
            owner = call.wishes.get("domain_name")
            kept = [r for r in lent if owner is None or r.account == owner]
            return kept, call.account.name
        raise bad_query(f"{parameter} must be self or thirdparty")

    def _list_namespaces(self, call: _Call) -> Answer:
        own = [n for n in self._world.namespaces.values() if n.account == call.account.name]
        counts: dict[str, int] = {}
        for repository in self._world.owned(call.account.name):
            counts[repository.namespace] = counts.get(repository.namespace, 0) + 1
        wanted = call.wishes.get("namespace", "")
        shown = [
            rows.namespace_row(n, counts.get(n.name, 0), call.account.name)
            for n in own
            if wanted in n.name
        ]
        return json_answer({"namespaces": shown})

    def _quotas(self, call: _Call) -> Answer:
        own = [n for n in self._world.namespaces.values() if n.account == call.account.name]
        quota = {"quota_limit": 15, "quota_key": "namespace", "unit": "", "used": len(own)}
        return json_answer({"quotas": [quota]})

    def _show_repository(self, call: _Call) -> Answer:
        return json_answer(rows.repository_summary(self._world, self._readable(call)))

    def _list_tags(self, call: _Call) -> Answer:
        repository = self._readable(call)
        wanted = call.wishes.get("tag", "")
        found = [tag for tag in repository.tags.values() if wanted in tag.name]
        ordered = self._ordered(found, call.wishes, _TAG_ORDER)
        page, given = self._offset_page(ordered, call.wishes, DEFAULT_LIMIT)
        shown = [rows.tag_row(self._world, repository, tag) for tag in page]
        return _with_range(json_answer(shown), given, len(page), len(ordered))

    def _show_tag(self, call: _Call) -> Answer:
        repository = self._readable(call)
        row = rows.tag_row(self._world, repository, _tag_of(repository, call.parts[2]))
        row["tag"] = row.pop("Tag")
        return json_answer(row)

    def _delete_tag(self, call: _Call) -> Answer:
        repository = self._owned(call)
        _tag_of(repository, call.parts[2])
        self._world.delete_tag(repository.path, call.parts[2])
        return Answer(status=204)

    def _delete_repository(self, call: _Call) -> Answer:
        self._world.delete_repository(self._owned(call).path)
        return Answer(status=204)

    # --- v3 ---------------------------------------------------------------------------------

    def _list_repositories_v3(self, call: _Call) -> Answer:
        return self._marked(_matching(self._visible(call), call.wishes), call, None)

    def _list_shared_v3(self, call: _Call) -> Answer:
        found, receiver = self._shared(call, "shared_by")
        status = call.wishes.get("status")
        if status is not None and receiver is not None:
            wanted = boolean("status", status)
            found = [r for r in found if self._world.share_is_valid(r, receiver) == wanted]
        return self._marked(_matching(found, call.wishes), call, receiver)

    def _marked(self, found: list[Repository], call: _Call, receiver: str | None) -> Answer:
        limit = number(call.wishes, "limit", DEFAULT_LIMIT, _bad_page_size)
        if not 1 <= limit <= MAX_LIMIT:
            raise _bad_page_size()
        marker = number(call.wishes, "marker", 0, lambda: bad_query("marker must be a number"))
        after = sorted((r for r in found if r.id > marker), key=lambda r: r.id)
        page = after[:limit]
        body: dict[str, object] = {
            "repos": [rows.repository_row_v3(self._world, r, receiver) for r in page]
        }
        if len(after) > limit:
            body["nextMarker"] = page[-1].id
        return json_answer(body)

    def _list_tags_v3(self, call: _Call) -> Answer:
        repository = self._readable(call)
        limit = number(call.wishes, "limit", DEFAULT_LIMIT, _bad_page_size)
        if not 1 <= limit <= MAX_LIMIT:
            raise _bad_page_size()
        wanted = call.wishes.get("tag", "")
        found = [tag for tag in repository.tags.values() if wanted in tag.name]
        ordered = self._ordered(found, call.wishes, _TAG_ORDER)
        rest = _after_marker(ordered, call.wishes)
        page = rest[:limit]
        manifest = boolean("with_manifest", call.wishes.get("with_manifest", "false"))
        body: dict[str, object] = {
            "tags": [
                rows.tag_row_v3(self._world, repository, tag, manifest=manifest) for tag in page
            ],
            "has_more": len(rest) > limit,
        }
        if len(rest) > limit:
            body["nextMarker"] = _marker_of(page[-1], call.wishes)
        return json_answer(body)

    # --- parts ------------------------------------------------------------------------------

    def _readable(self, call: _Call) -> Repository:
        repository = self._named(call)
        me = call.account.name
        if repository.account == me or repository.is_public:
            return repository
        if me in repository.shares and self._world.share_is_valid(repository, me):
            return repository
        raise _no_permission()

    def _owned(self, call: _Call) -> Repository:
        repository = self._named(call)
        if repository.account != call.account.name:
            raise _no_permission()
        return repository

    def _named(self, call: _Call) -> Repository:
        namespace, name = call.parts[0], call.parts[1].replace("$", "/")
        if len(namespace) > 64 or _ORGANISATION.fullmatch(namespace) is None:
            raise SwrRefusedError(400, "4001028", "Invalid namespace")
        if len(name) > 128:
            raise SwrRefusedError(400, "4001029", "Invalid image name")
        if namespace not in self._world.namespaces:
            raise SwrRefusedError(404, "4041061", "The organization does not exist")
        try:
            return self._world.repository(f"{namespace}/{name}")
        except UnknownNameError:
            raise SwrRefusedError(404, "4040113", "The image does not exist") from None

    def _ordered(
        self, found: Iterable[T], wishes: dict[str, str], orders: dict[str, Callable[[T], object]]
    ) -> list[T]:
        column = wishes.get("order_column") or self.default_order
        direction = wishes.get("order_type") or ("desc" if column in _NEWEST_FIRST else "asc")
        if column not in orders or direction not in {"asc", "desc"}:
            raise bad_query("order_column or order_type is not supported")
        key = orders[column]
        return sorted(found, key=key, reverse=direction == "desc")  # type: ignore[arg-type]

    def _offset_page(
        self, ordered: Sequence[T], wishes: dict[str, str], default: int | None
    ) -> tuple[Sequence[T], int | None]:
        """The page, and the offset when both parameters were given."""
        given = [name for name in ("offset", "limit") if name in wishes]
        if not given:
            return ordered[:default], None
        if len(given) == 1 and self.strict_paging:
            raise bad_query("offset and limit must be used together")
        offset = number(wishes, "offset", 0, lambda: bad_query("offset must be 0 or more"))
        limit = number(wishes, "limit", DEFAULT_LIMIT, _bad_page_size)
        if not 1 <= limit <= MAX_LIMIT:
            raise _bad_page_size()
        if offset < 0:
            raise bad_query("offset must be 0 or more")
        return ordered[offset : offset + limit], offset if len(given) == 2 else None


def _moment(value: dt.datetime | str) -> str:
    return value if isinstance(value, str) else value.isoformat()


_NEWEST_FIRST = {"updated_at", "updated_time"}
_REPOSITORY_ORDER: dict[str, Callable[[Repository], object]] = {
    "updated_at": lambda r: (_moment(r.updated), r.id),
    "updated_time": lambda r: (_moment(r.updated), r.id),
    "name": lambda r: (r.name, r.id),
    "tag_count": lambda r: (r.num_images, r.id),
    "namespace": lambda r: (r.namespace, r.id),
    "is_public": lambda r: (r.is_public, r.id),
}
_TAG_ORDER: dict[str, Callable[[Tag], object]] = {
    "updated_at": lambda t: (_moment(t.updated), t.id),
    "tag": lambda t: (t.name, t.id),
}


def _wishes(query: str) -> dict[str, str]:
    """The parameters; those inside ``filter`` win over the single ones."""
    single: dict[str, str] = {}
    for part in filter(None, query.split("&")):
        name, _, value = part.partition("=")
        single[unquote(name)] = unquote(value.replace("+", " "))
    for wish in filter(None, single.pop("filter", "").split("|")):
        name, separator, value = wish.partition("::")
        if not separator:
            raise bad_query("filter must be name::value|name::value")
        single[name] = value
    return single


def _matching(found: list[Repository], wishes: dict[str, str]) -> list[Repository]:
    namespace, name = wishes.get("namespace", ""), wishes.get("name", "")
    category = wishes.get("category")
    return [
        r
        for r in found
        if namespace in r.namespace
        and name in r.name
        and (category is None or r.category == category)
    ]


def _with_range(answer: Answer, offset: int | None, count: int, total: int) -> Answer:
    """``Content-Range: offset-count/total``, where the second number is a count, not an end."""
    if offset is None:
        return answer
    return answer.with_headers(Content_Range=f"{offset}-{count}/{total}")


def _bad_page_size() -> SwrRefusedError:
    return SwrRefusedError(400, "4000056", "Invalid page size: limit must be 1 to 1000")


def _no_permission() -> SwrRefusedError:
    return SwrRefusedError(403, "4039002", "No permission to access the image")


def _tag_of(repository: Repository, name: str) -> Tag:
    if name not in repository.tags:
        raise SwrRefusedError(404, "4041056", "The image tag does not exist")
    return repository.tags[name]


def _sort_key(tag: Tag, wishes: dict[str, str]) -> list[object]:
    by_name = wishes.get("order_column") == "tag"
    return [tag.name if by_name else _moment(tag.updated), tag.id]


def _marker_of(tag: Tag, wishes: dict[str, str]) -> str:
    raw = msgspec.json.encode(_sort_key(tag, wishes))
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _after_marker(ordered: list[Tag], wishes: dict[str, str]) -> list[Tag]:
    marker = wishes.get("marker")
    if not marker:
        return ordered
    try:
        raw = base64.urlsafe_b64decode(marker + "=" * (-len(marker) % 4))
        last = msgspec.json.decode(raw, type=tuple[str, int])
    except (binascii.Error, msgspec.MsgspecError, ValueError):
        raise bad_query("marker is not one this list gave") from None
    by_name = wishes.get("order_column") == "tag"
    descending = (wishes.get("order_type") or ("asc" if by_name else "desc")) == "desc"
    keys = [(_sort_key(tag, wishes), tag) for tag in ordered]
    return [tag for key, tag in keys if (key < list(last) if descending else key > list(last))]
