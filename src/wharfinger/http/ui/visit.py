"""What every page has: who is signed in, what was asked, and how the answer is to look."""

from __future__ import annotations

import datetime as dt
import hmac
import zoneinfo
from collections.abc import Mapping
from urllib.parse import parse_qsl

import msgspec
from litestar.di import NamedDependency
from litestar.params import SkipValidation

from wharfinger.domain.errors import InvalidParameterError, NotAuthenticatedError, NotGrantedError
from wharfinger.domain.model import ALL_GRANTED_ENTERPRISE_PROJECTS, Caller
from wharfinger.domain.policy import may
from wharfinger.http.authentication import admit, check_action
from wharfinger.http.failures import AnyRequest
from wharfinger.http.origin import own_address
from wharfinger.http.parameters import Parameters, checked_text
from wharfinger.http.scope import REQUEST_ID
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.look import Look, look_of
from wharfinger.http.ui.words import Words
from wharfinger.identity.sessions import form_token

# A browser takes the first from nobody but this host, over TLS; the other one is for plain HTTP.
COOKIE_WITH_TLS, COOKIE = "__Host-wharfinger", "wharfinger_session"
FORM_TOKEN = "form_token"  # noqa: S105 - a name
_MOST_FIELDS = 2000
# Of the largest number that PostgreSQL keeps.
_DIGITS = 19
_SECRET_FIELDS = {
    FORM_TOKEN,
    "secret",
    "password",
    "password_again",
    "current",
    "secret_key",
    "token",
}
# What a route names whose page is open to everybody who is signed in.
OF_ONESELF = "console:oneself"


class Form:
    """The fields of a form as it was sent; each complaint names the field."""

    def __init__(self, body: bytes) -> None:
        try:
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, max_num_fields=_MOST_FIELDS, errors="strict"
            )
        except ValueError as exc:
            raise InvalidParameterError("form", "must be a form as a browser sends it") from exc
        self._values: dict[str, list[str]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def text(self, name: str, *, longest: int = 1000, shortest: int = 0) -> str:
        """Return one field, without blanks at its ends; an absent one is empty."""
        value = self.secret(name).strip()
        return checked_text(name, value, longest, shortest)

    def number(self, name: str, *, smallest: int, largest: int) -> int | None:
        """Return a whole number; ``None`` where the field is blank."""
        text = self.text(name)
        if not text:
            return None
        if len(text) <= _DIGITS and text.isascii() and text.isdigit():
            value = int(text)
            if smallest <= value <= largest:
                return value
        raise InvalidParameterError(name, f"must be a whole number from {smallest} to {largest}")

    def secret(self, name: str) -> str:
        """Return one field exactly as it is."""
        values = self._values.get(name, [""])
        if len(values) > 1:
            raise InvalidParameterError(name, "must be given once")
        return values[0]

    def all(self, name: str) -> list[str]:
        """Return every value of a field that may be given several times."""
        return self._values.get(name, [])

    def lines(self, name: str) -> list[str]:
        """Return the lines of a field that are not blank."""
        lines = [line.strip() for line in self.secret(name).splitlines()]
        return [checked_text(name, line, 1000) for line in lines if line]

    def flag(self, name: str) -> bool:
        """Whether a box is ticked."""
        return bool(self._values.get(name))

    def given(self) -> Mapping[str, str]:
        """Return all fields but those that hold a secret, to fill the form with again."""
        kept = self._values.keys() - _SECRET_FIELDS
        return {name: values[-1] for name, values in self._values.items() if name in kept}


class Visit(msgspec.Struct, frozen=True, kw_only=True):
    """One call of somebody who is signed in, on the project that the session is of."""

    caller: Caller
    session_id: str
    look: Look
    zone: str  # that times are shown in
    query: Parameters
    form: Form
    path: str
    address: str  # the path with its query
    request_id: str

    @property
    def words(self) -> Words:
        """What says things in the viewer's language."""
        return self.look.words

    @property
    def form_token(self) -> str:
        """What every form of this session carries."""
        return form_token(self.session_id)

    def moment(self, name: str, text: str) -> dt.datetime:
        """A time that the viewer gave; without an offset it is by the viewer's clock.

        Raises:
            InvalidParameterError: it is no time.
        """
        try:
            value = dt.datetime.fromisoformat(text)
            if value.tzinfo is None:
                value = value.replace(tzinfo=zoneinfo.ZoneInfo(self.zone))
            return value.astimezone(dt.UTC)
        except (ValueError, OverflowError) as exc:
            raise InvalidParameterError(name, "must be a time, like 2026-11-01T08:00") from exc

    def picked(self, moment: dt.datetime) -> str:
        """A time as a form's field takes it, by the viewer's clock."""
        local = moment.astimezone(zoneinfo.ZoneInfo(self.zone)).replace(tzinfo=None)
        return local.isoformat(timespec="milliseconds" if local.microsecond else "seconds")

    def may(self, action: str) -> bool:
        """Whether the viewer may do something: what may not be done is not offered."""
        return may(self.caller.policies, action)


# How a page asks for it.
TheVisit = SkipValidation[NamedDependency[Visit]]


async def visit_of(request: AnyRequest, services: TheServices) -> Visit:
    """Tell who is signed in, and check that they may do what the route names.

    Raises:
        NotAuthenticatedError: nobody is.
        NotGrantedError: the form was not ours, or no policy allows the route's action.
    """
    session_id = session_of(request)
    caller = await services.sessions.caller(session_id)
    caller = admit(request, services, caller)
    body = await request.body() if request.method != "GET" else b""
    form = Form(body)
    if request.method != "GET":
        check_same_origin(request, services)
        _check_form_token(form, session_id)
    if request.route_handler.opt["action"] != OF_ONESELF:
        check_action(request, caller)
    look = look_of(request)
    seen = caller.within(ALL_GRANTED_ENTERPRISE_PROJECTS)
    return Visit(
        caller=seen,
        session_id=session_id,
        look=look,
        zone=look.zone or await services.schedules.time_zone(seen),
        query=Parameters(request.scope["query_string"]),
        form=form,
        path=request.scope["path"],
        address=_address(request),
        request_id=str(request.scope.get(REQUEST_ID, "")),
    )


def session_of(request: AnyRequest) -> str:
    """The session that a request brings.

    Raises:
        NotAuthenticatedError: none.
    """
    found = request.cookies.get(COOKIE_WITH_TLS) or request.cookies.get(COOKIE)
    if not found:
        raise NotAuthenticatedError("nobody is signed in", reason="no_credentials")
    return found


def check_same_origin(request: AnyRequest, services: Services) -> None:
    """Refuse a form that another site has sent; a program that is no browser names no site.

    Raises:
        NotGrantedError: it comes from elsewhere.
    """
    fetched = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    own = own_address(request.scope, services.proxies)
    if fetched not in (None, "same-origin") or (fetched is None and origin not in (None, own)):
        raise NotGrantedError("the form was sent from another site")


def _check_form_token(form: Form, session_id: str) -> None:
    given = form.secret(FORM_TOKEN)
    if not hmac.compare_digest(given.encode(), form_token(session_id).encode()):
        raise NotGrantedError("the form is of another session; load the page again")


def _address(request: AnyRequest) -> str:
    query = request.scope["query_string"].decode("ascii", "replace")
    return request.scope["path"] + (f"?{query}" if query else "")
