"""The page of access keys: whose there are, made, replaced and revoked."""

from __future__ import annotations

import datetime as dt
from typing import Any

from litestar import Response, get, post

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.pages import go, page
from wharfinger.http.ui.visit import Form, TheVisit, Visit
from wharfinger.store.callers import NewCredential

LIST = "iam:credentials:list"
CREATE = "iam:credentials:create"
REPLACE = "iam:credentials:update"
REVOKE = "iam:credentials:delete"
HERE = "/console/settings/credentials"
_MOST_DAYS = 3650
# How long a key goes on beside the one that takes its place.
_KEEP = dt.timedelta(hours=24)


@get("/settings/credentials", action=LIST)
async def list_credentials(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show the keys of this project, without their secrets."""
    chosen = visit.query.without_blanks().text("user", longest=64) or ""
    return await _keys_page(visit, services, chosen=chosen)


async def _keys_page(
    visit: Visit,
    services: Services,
    *,
    chosen: str = "",
    days: str = "",
    problem: InvalidParameterError | None = None,
) -> Response[str]:
    reach = await services.users.reach(visit.caller)
    found = await services.access_keys.list(visit.caller) if visit.may(LIST) else []
    return page(
        visit,
        "credentials.html",
        found=found,
        users=[one.name for one in reach.seen() if reach.covers(one, (visit.caller.project_id,))],
        is_account=reach.is_account,
        values={"user": chosen, "days": days},
        problem=problem,
    )


@post("/settings/credentials", status_code=200, action=CREATE)
async def create_credential(visit: TheVisit, services: TheServices) -> Response[str]:
    """Make a key, and show its secret: in this answer and never again."""
    chosen = visit.form.text("user", longest=64)
    try:
        life = life_of(visit.form)
        made = await services.access_keys.create(visit.caller, chosen or None, life)
    except InvalidParameterError as error:
        days = visit.form.text("days")
        return await _keys_page(visit, services, chosen=chosen, days=days, problem=error)
    return secret_page(visit, made, back=HERE if visit.may(LIST) else "/console/settings")


@post("/settings/credentials/replace", status_code=200, action=REPLACE)
async def replace_credential(visit: TheVisit, services: TheServices) -> Response[str]:
    """Make a key in place of another, which ends a day later, and show the secret."""
    access_key = visit.form.text("access_key", longest=256)
    made = await services.access_keys.rotate(visit.caller, access_key, _KEEP)
    return secret_page(visit, made, back=HERE if visit.may(LIST) else "/console/settings")


@post("/settings/credentials/revoke", status_code=303, action=REVOKE)
async def revoke_credential(visit: TheVisit, services: TheServices) -> Response[Any]:
    """End a key now."""
    try:
        access_key = visit.form.text("access_key", longest=256)
        await services.access_keys.revoke(visit.caller, access_key)
    except InvalidParameterError as error:
        return await _keys_page(visit, services, problem=error)
    return go(HERE if visit.may(LIST) else "/console/settings", note="key_revoked")


def secret_page(visit: Visit, made: NewCredential, *, back: str) -> Response[str]:
    """The one page on which a secret key stands; no browser keeps it."""
    return page(visit, "credential_made.html", made=made, back=back)


def life_of(form: Form) -> dt.timedelta | None:
    """How long a key is to live; a blank field stands for ever.

    Raises:
        InvalidParameterError: it is no number of days that makes sense.
    """
    days = form.number("days", smallest=1, largest=_MOST_DAYS)
    return None if days is None else dt.timedelta(days=days)
