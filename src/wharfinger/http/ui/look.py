"""How a viewer wants pages to look: language, light or dark, and whose clock times go by."""

from __future__ import annotations

import datetime as dt
import zoneinfo

import msgspec

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.schedule import checked_time_zone
from wharfinger.http.failures import AnyRequest
from wharfinger.http.ui.words import LANGUAGES, Words, preferred

THEMES = ("auto", "light", "dark")
LANGUAGE, THEME, ZONE = "wharfinger_language", "wharfinger_theme", "wharfinger_zone"


class Look(msgspec.Struct, frozen=True, kw_only=True):
    """A viewer's wishes. Without a ``zone`` times go by the project's."""

    language: str
    theme: str = "auto"
    zone: str = ""

    @property
    def words(self) -> Words:
        """What says things to this viewer."""
        return Words(self.language)


def look_of(request: AnyRequest) -> Look:
    """Read a viewer's wishes; what makes no sense is as if it were not given."""
    cookies = request.cookies
    asked = request.query_params.get("lang") or cookies.get(LANGUAGE, "")
    theme = cookies.get(THEME, "")
    return Look(
        language=asked
        if asked in LANGUAGES
        else preferred(request.headers.get("accept-language", "")),
        theme=theme if theme in THEMES else "auto",
        zone=_zone(cookies.get(ZONE, "")),
    )


def _zone(name: str) -> str:
    try:
        return checked_time_zone(name) if name else ""
    except InvalidParameterError:
        return ""


def local_time(moment: dt.datetime, zone: str) -> str:
    """A time as people read it, by the clock of a zone."""
    return f"{moment.astimezone(zoneinfo.ZoneInfo(zone)):%Y-%m-%d %H:%M:%S}"
