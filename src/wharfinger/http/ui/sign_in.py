"""Signing in and out, and how pages are to look."""

from __future__ import annotations

from typing import Any

from litestar import Response, get, post
from litestar.datastructures import Cookie

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.schedule import checked_time_zone
from wharfinger.http.failures import AnyRequest
from wharfinger.http.origin import origin_of, own_address
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.failures import PREFIX, safe_path
from wharfinger.http.ui.look import LANGUAGE, THEME, THEMES, ZONE, look_of
from wharfinger.http.ui.pages import bare_page, go, page
from wharfinger.http.ui.visit import (
    COOKIE,
    COOKIE_WITH_TLS,
    OF_ONESELF,
    Form,
    TheVisit,
    check_same_origin,
)
from wharfinger.http.ui.words import LANGUAGES
from wharfinger.identity.login import LoginWish, Named
from wharfinger.identity.sessions import SESSION_LIFE
from wharfinger.store.sessions import NewSession

_LOOK_LASTS_S = 366 * 24 * 3600


@get("/sign-in")
async def show_sign_in(request: AnyRequest) -> Response[str]:
    """Ask for a password, an access key or a token."""
    look = look_of(request)
    wanted = safe_path(request.query_params.get("next", ""))
    answer = bare_page(look, "sign_in.html", refused="", next=wanted)
    if "lang" in request.query_params:
        # Whoever chooses a language here wants it behind the door as well.
        answer.cookies.append(_look_cookie(LANGUAGE, look.language))
    return answer


@post("/sign-in", status_code=303)
async def sign_in(request: AnyRequest, services: TheServices) -> Response[Any]:
    """Open a session under a new id, whatever cookie the browser had before."""
    check_same_origin(request, services)
    form = Form(await request.body())
    opened = await _opened(form, request, services)
    answer = go(safe_path(request.query_params.get("next", "")))
    answer.cookies.append(_session_cookie(request, services, opened))
    return answer


async def _opened(form: Form, request: AnyRequest, services: Services) -> NewSession:
    origin = origin_of(request.scope, services.proxies)
    way = form.text("way")
    if way == "token":
        return await services.sessions.by_token(form.secret("token").strip(), origin=origin)
    if way == "key":
        access_key = form.text("access_key", longest=256)
        return await services.sessions.by_key(access_key, form.secret("secret_key"), origin=origin)
    if way == "password":
        return await services.sessions.by_password(_wish(form), origin=origin)
    raise InvalidParameterError("way", "must be password, key or token")


def _wish(form: Form) -> LoginWish:
    project = form.text("project", longest=256)
    account = Named(name=form.text("account", longest=256))
    user = Named(name=form.text("user", longest=256), domain=account)
    # A project's id is what the command line prints; its name is the region's.
    wanted = Named(id=project) if project else None
    return LoginWish(user=user, password=form.secret("password"), project=wanted)


@post("/sign-out", status_code=303, action=OF_ONESELF)
async def sign_out(services: TheServices, visit: TheVisit) -> Response[Any]:
    """End the session, for good and at once."""
    await services.sessions.sign_out(visit.session_id, visit.caller)
    answer = go(f"{PREFIX}/sign-in")
    for name in (COOKIE, COOKIE_WITH_TLS):
        answer.cookies.append(
            Cookie(name, value="", path="/", max_age=0, secure=name == COOKIE_WITH_TLS)
        )
    # What the browser has kept of the pages goes, too.
    answer.headers["Clear-Site-Data"] = '"cache"'
    return answer


@get("/look", action=OF_ONESELF)
async def show_look(visit: TheVisit) -> Response[str]:
    """Show what can be chosen about how pages look."""
    return page(visit, "look.html")


@post("/look", status_code=303, action=OF_ONESELF)
async def set_look(visit: TheVisit) -> Response[Any]:
    """Remember a choice in the browser."""
    chosen = {
        LANGUAGE: _choice(visit.form, "language", LANGUAGES),
        THEME: _choice(visit.form, "theme", THEMES),
        ZONE: visit.form.text("zone", longest=64),
    }
    if chosen[ZONE]:
        checked_time_zone(chosen[ZONE])
    answer = go(f"{PREFIX}/look", note="look_set")
    answer.cookies.extend(_look_cookie(name, value) for name, value in chosen.items())
    return answer


def _choice(form: Form, name: str, allowed: Any) -> str:
    value = form.text(name)
    if value not in allowed:
        raise InvalidParameterError(name, f"must be one of {', '.join(allowed)}")
    return value


def _session_cookie(request: AnyRequest, services: Services, opened: NewSession) -> Cookie:
    is_tls = own_address(request.scope, services.proxies).startswith("https:")
    return Cookie(
        COOKIE_WITH_TLS if is_tls else COOKIE,
        value=opened.id,
        path="/",
        httponly=True,
        secure=is_tls,
        samesite="lax",
        max_age=int(SESSION_LIFE.total_seconds()),
    )


def _look_cookie(name: str, value: str) -> Cookie:
    return Cookie(
        name, value=value, path=PREFIX, httponly=True, samesite="lax", max_age=_LOOK_LASTS_S
    )
