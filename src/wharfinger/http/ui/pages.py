"""Draws pages: templates with words, and the header fields that every page has."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Any

import jinja2
from litestar import Response
from litestar.response import Redirect

from wharfinger.domain.errors import CallerError, ConflictError, InvalidParameterError
from wharfinger.http.ui.assets import asset_path
from wharfinger.http.ui.look import THEMES, Look, local_time
from wharfinger.http.ui.navigation import PLACES, place_of
from wharfinger.http.ui.visit import Visit
from wharfinger.http.ui.words import LANGUAGES

_TEMPLATES = jinja2.Environment(
    loader=jinja2.PackageLoader("wharfinger.http.ui"),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    # The files of an installed package do not change.
    auto_reload=False,
)
_TEMPLATES.globals.update(asset=asset_path, languages=LANGUAGES, themes=THEMES)
_TEMPLATES.filters["grouped"] = "{:,}".format


def _bytes(count: int) -> str:
    """A size as people read it."""
    if count < 1000:
        return f"{count} B"
    amount, units = float(count), iter(("kB", "MB", "GB", "TB"))
    unit = next(units)
    amount /= 1000
    # What would be shown as 1000.0 is the next unit's 1.0.
    while amount >= 999.95 and unit != "TB":
        amount, unit = amount / 1000, next(units)
    return f"{amount:.1f} {unit}"


_TEMPLATES.filters["bytes"] = _bytes

# Nothing but what we serve ourselves, and nothing of it written into the page.
CONTENT_SECURITY_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self';"
    " form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": CONTENT_SECURITY_POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
    # Without the origin a browser would not tell us that a form is our own.
    "Referrer-Policy": "same-origin",
    "X-Frame-Options": "DENY",
}
# A page is for whoever is signed in, who may be somebody else a moment later.
_PRIVATE = {"Cache-Control": "no-store", "Vary": "Cookie"}


def page(
    visit: Visit,
    template: str,
    *,
    status: int | None = None,
    problem: CallerError | None = None,
    **context: Any,
) -> Response[str]:
    """Draw a page of the console for whoever is signed in.

    A ``problem`` with what was sent makes the answer a 400, and names the field that is ``wrong``,
    unless the caller knows better.
    """
    note = visit.query.raw("note") or ""
    wrong = problem.parameter if isinstance(problem, InvalidParameterError) else ""
    usual_status = 200 if problem is None else 400
    return bare_page(
        visit.look,
        template,
        status=usual_status if status is None else status,
        visit=visit,
        problem=problem,
        places=[place for place in PLACES if place.is_offered(visit.may)],
        here=place_of(visit.path),
        note=f"note.{note}" if visit.words.has(f"note.{note}") else None,
        when=lambda moment: _when(moment, visit),
        **{"wrong": wrong, **context},
    )


def status_of(refused: CallerError | None) -> int:
    """The status of a form that comes back: something is wrong with it, or in its way."""
    if refused is None:
        return 200
    return 409 if isinstance(refused, ConflictError) else 400


def beside_name(error: InvalidParameterError | ConflictError) -> InvalidParameterError:
    """A complaint beside its field: where a name is all that may be taken, it is the name."""
    return InvalidParameterError("name", str(error)) if isinstance(error, ConflictError) else error


def bare_page(look: Look, template: str, *, status: int = 200, **context: Any) -> Response[str]:
    """Draw a page for anybody."""
    context = {"visit": None, "note": None, "places": (), "here": ""} | context
    text = _TEMPLATES.get_template(template).render(t=look.words, look=look, **context)
    return Response(
        text,
        status_code=status,
        media_type="text/html",
        headers={**_PRIVATE, "Content-Language": look.language},
    )


def go(path: str, *, note: str = "") -> Redirect:
    """Send the browser on to another page after something was done; ``note`` says what."""
    if note:
        path += f"{'&' if '?' in path else '?'}note={note}"
    return Redirect(path, status_code=303, headers={"Cache-Control": "no-store"})


def _when(moment: dt.datetime | None, visit: Visit) -> str:
    return "" if moment is None else local_time(moment, visit.zone)
