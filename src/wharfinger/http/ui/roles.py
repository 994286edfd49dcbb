"""The page of roles: which may do what, by the actions that the routes themselves ask for."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from litestar import Response, get

from wharfinger.domain.policy import may
from wharfinger.http.failures import AnyRequest
from wharfinger.http.services import TheServices
from wharfinger.http.ui.pages import page
from wharfinger.http.ui.visit import OF_ONESELF, TheVisit
from wharfinger.http.ui.words import Words

LIST = "iam:policies:list"
# Asked for by the service itself, once a token that is not one's own has been found.
_OF_TOKENS = ("iam:tokens:get", "iam:tokens:delete")


class Ability(msgspec.Struct, frozen=True, kw_only=True):
    """An action, in words, and the names of the roles that allow it."""

    action: str
    words: str
    roles: frozenset[str]


@get("/settings/roles", action=LIST)
async def show_roles(request: AnyRequest, visit: TheVisit, services: TheServices) -> Response[str]:
    """Show which role may do which action."""
    roles = await services.users.roles(visit.caller)
    abilities = [
        Ability(
            action=action,
            words=words_of(action, visit.words),
            roles=frozenset(one.name for one in roles if may([one.policy], action)),
        )
        for action in actions(request.app.routes)
    ]
    return page(visit, "roles.html", roles=roles, abilities=abilities)


def actions(routes: Iterable[object]) -> list[str]:
    """Every action that anybody is asked for, as the routes name them."""
    named = {
        handler.opt.get("action")
        for route in routes
        for handler in getattr(route, "route_handlers", ())
    }
    found = {action for action in named if action and action != OF_ONESELF}
    return sorted({*found, *_OF_TOKENS}, key=_by_service_and_thing)


def _by_service_and_thing(action: str) -> tuple[int, str]:
    service = action.partition(":")[0]
    order = ("hss", "wharfinger", "eps", "iam")
    return (order.index(service) if service in order else len(order), action)


def words_of(action: str, words: Words) -> str:
    """What an action lets one do; its own name where nobody has said it."""
    key = f"actions.{action.replace(':', '_')}"
    return words(key) if words.has(key) else action
