"""The page of whoever is signed in about themselves."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post

from wharfinger.domain.errors import (
    InvalidParameterError,
    LockedError,
    LoginRefusedError,
    NotAuthenticatedError,
)
from wharfinger.http.failures import AnyRequest
from wharfinger.http.refusals import refusal_hook
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.choices import enterprise_project_names
from wharfinger.http.ui.credentials import life_of, secret_page
from wharfinger.http.ui.failures import SIGN_IN
from wharfinger.http.ui.pages import go, page
from wharfinger.http.ui.visit import OF_ONESELF, Form, TheVisit, Visit
from wharfinger.identity.access_keys import is_live

HERE = "/console/me"


@get("/me", action=OF_ONESELF)
async def show_oneself(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show who is signed in, and what they may do and see."""
    return await _own_page(visit, services)


async def _own_page(
    visit: Visit,
    services: Services,
    *,
    form: str = "",
    problem: InvalidParameterError | None = None,
) -> Response[str]:
    caller = visit.caller
    known = None
    if caller.user_id:
        known = await services.users.find(caller, caller.user_name)
    return page(
        visit,
        "me.html",
        known=known,
        keys=await services.access_keys.list_own(caller),
        is_live=is_live,
        names=await enterprise_project_names(visit, services),
        values=visit.form.given(),
        form=form,
        problem=problem,
        wrong="" if problem is None else f"{form}_{problem.parameter}",
    )


@post("/me/password", status_code=303, action=OF_ONESELF)
async def change_own_password(
    request: AnyRequest, visit: TheVisit, services: TheServices
) -> Response[Any]:
    """Change one's own password, which ends this session, too."""
    form = visit.form
    try:
        new = _typed_twice(form)
        await services.oneself.set_password(visit.caller, form.secret("current"), new)
    except (InvalidParameterError, NotAuthenticatedError) as error:
        problem = await _beside_field(request, services, error)
        return await _own_page(visit, services, form="password", problem=problem)
    return go(SIGN_IN)


def _typed_twice(form: Form) -> str:
    password = form.secret("password")
    if password != form.secret("password_again"):
        raise InvalidParameterError("password_again", "must be the same as the new password")
    return password


@post("/me/keys", status_code=200, action=OF_ONESELF)
async def create_own_key(
    request: AnyRequest, visit: TheVisit, services: TheServices
) -> Response[str]:
    """Make an access key of one's own, and show its secret: in this answer and never again."""
    form = visit.form
    try:
        life = life_of(form)
        made = await services.oneself.create_key(visit.caller, form.secret("current"), life)
    except (InvalidParameterError, NotAuthenticatedError) as error:
        problem = await _beside_field(request, services, error)
        return await _own_page(visit, services, form="key", problem=problem)
    return secret_page(visit, made, back=HERE)


@post("/me/keys/revoke", status_code=303, action=OF_ONESELF)
async def revoke_own_key(visit: TheVisit, services: TheServices) -> Response[Any]:
    """End a key of one's own now."""
    access_key = visit.form.text("access_key", longest=256)
    try:
        await services.access_keys.revoke_own(visit.caller, access_key)
    except InvalidParameterError as error:
        return await _own_page(visit, services, form="revoke", problem=error)
    return go(HERE, note="key_revoked")


async def _beside_field(
    request: AnyRequest, services: Services, error: InvalidParameterError | NotAuthenticatedError
) -> InvalidParameterError:
    """What is wrong, beside its field; a wrong password is a refusal, wherever it is given."""
    if isinstance(error, InvalidParameterError):
        return error
    if not isinstance(error, (LockedError, LoginRefusedError)):
        raise error
    await refusal_hook(services)(error, request.scope)
    return InvalidParameterError("current", error.detail)
