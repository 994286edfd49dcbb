"""The form of a registry, drawn from what its kind can be set, as the command line is."""

from __future__ import annotations

import dataclasses
import datetime as dt
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, Literal

import msgspec

from wharfinger.domain.errors import InvalidParameterError
from wharfinger.domain.model import DEFAULT_ENTERPRISE_PROJECT, RegistryCredential, TwoStrikes
from wharfinger.http.ui.visit import Form
from wharfinger.sources import KINDS, credential_kinds, kind_options
from wharfinger.store.registries import NewRegistry, RegistryChange, RegistryStatus

_MOST_HOURS = 366 * 24


class Field(msgspec.Struct, frozen=True, kw_only=True):
    """One option of a kind, and how a form asks for it: text, number, choice, flag or lines."""

    name: str
    shape: str
    help: str
    default: str
    choices: tuple[str, ...] = ()
    smallest: int | None = None
    largest: int | None = None


def fields_of(kind: str) -> list[Field]:
    """The options that registries of a kind have.

    Raises:
        InvalidParameterError: there is no such kind.
    """
    shape = kind_options(kind)
    hints = typing.get_type_hints(shape, include_extras=True)
    return [_field(one, hints[one.name]) for one in dataclasses.fields(shape)]


def _field(option: dataclasses.Field[Any], hint: Any) -> Field:
    meta = [m for m in getattr(hint, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
    plain = typing.get_args(hint)[0] if meta else hint
    return Field(
        name=option.name,
        shape=_shape(plain),
        help=option.metadata.get("help", ""),
        default=shown(option.default),
        choices=typing.get_args(plain) if typing.get_origin(plain) is Literal else (),
        smallest=_whole(m.ge for m in meta),
        largest=_whole(m.le for m in meta),
    )


def _whole(limits: Iterable[float | None]) -> int | None:
    return next((int(one) for one in limits if one is not None), None)


def _shape(plain: Any) -> str:
    if typing.get_origin(plain) is Literal:
        return "choice"
    if typing.get_origin(plain) is tuple or isinstance(plain, types.GenericAlias):
        return "lines"
    return {bool: "flag", int: "number"}.get(plain, "text")


def shown(value: Any) -> str:
    """A value as a form has it."""
    if isinstance(value, bool):
        return "true" if value else ""
    if isinstance(value, (list, tuple)):
        return "\n".join(map(str, value))
    return str(value)


def credentials_of(kind: str) -> list[str]:
    """Which credentials a kind takes, in the order in which a form offers them."""
    order = ("access_key", "basic", "token", "none")
    return [one for one in order if one in credential_kinds(kind)]


def read_new(form: Form, kind: str) -> tuple[NewRegistry, RegistryCredential]:
    """Read what is to be added.

    Raises:
        InvalidParameterError: a field is not what it must be.
    """
    new = NewRegistry(
        name=form.text("name", longest=128, shortest=1),
        kind=kind,
        address=form.text("address").rstrip("/"),
        region=form.text("region", longest=64),
        enterprise_project_id=form.text("enterprise_project_id") or DEFAULT_ENTERPRISE_PROJECT,
        options=_options(form, kind),
        include=form.lines("include"),
        exclude=form.lines("exclude"),
        stale_after=_stale_after(form),
        ca_pem=_certificates(form),
    )
    return new, _credential(form)


def read_change(
    form: Form, before: RegistryStatus
) -> tuple[RegistryChange, RegistryCredential | None]:
    """Read what is to be changed; without a secret the credential stays as it is.

    Raises:
        InvalidParameterError: a field is not what it must be.
    """
    change = RegistryChange(
        address=form.text("address").rstrip("/"),
        enterprise_project_id=form.text("enterprise_project_id") or None,
        options=_options(form, before.kind),
        include=form.lines("include"),
        exclude=form.lines("exclude"),
        stale_after=_stale_after(form),
        two_strikes=_two_strikes(form),
        ca_pem=_certificates(form),
    )
    given = _credential(form)
    same = (before.credential_kind, before.credential_identity) == (given.kind, given.identity)
    kept = not given.secret and same
    return change, None if kept else given


def filled(before: RegistryStatus) -> Mapping[str, str]:
    """What stands in the form of a registry that there is."""
    options = {field.name: field.default for field in fields_of(before.kind)}
    options |= {name: shown(value) for name, value in before.options.items()}
    return {
        "name": before.name,
        "address": before.address,
        "region": before.region,
        "enterprise_project_id": before.enterprise_project_id,
        "credential": before.credential_kind,
        "identity": before.credential_identity,
        "include": shown(tuple(before.include)),
        "exclude": shown(tuple(before.exclude)),
        "stale_after_hours": f"{before.stale_after_s / 3600:g}",
        "two_strikes": before.two_strikes,
        **{f"option_{name}": value for name, value in options.items()},
    }


def empty(kind: str) -> Mapping[str, str]:
    """What stands in the form of a registry that is to be added."""
    return {
        "credential": credentials_of(kind)[0],
        "enterprise_project_id": DEFAULT_ENTERPRISE_PROJECT,
        "stale_after_hours": "26",
        **{f"option_{field.name}": field.default for field in fields_of(kind)},
    }


def checked_kind(kind: str) -> str:
    """Return a kind that there is.

    Raises:
        InvalidParameterError: there is no such kind.
    """
    if kind not in KINDS:
        raise InvalidParameterError("kind", f"must be one of {', '.join(KINDS)}")
    return kind


def _options(form: Form, kind: str) -> dict[str, Any]:
    """The options that are given; one that is left blank is as its kind has it."""
    found: dict[str, Any] = {}
    for field in fields_of(kind):
        name = f"option_{field.name}"
        if field.shape == "flag":
            found[field.name] = form.flag(name)
        elif field.shape == "lines":
            if lines := form.lines(name):
                found[field.name] = lines
        elif text := form.text(name):
            whole = field.shape == "number" and text.isascii() and text.isdigit()
            found[field.name] = int(text) if whole else text
    return found


def _credential(form: Form) -> RegistryCredential:
    kind = form.text("credential") or "none"
    if kind == "none":
        return RegistryCredential(kind="none")
    return RegistryCredential(
        kind=kind, identity=form.text("identity"), secret=form.secret("secret")
    )


def _stale_after(form: Form) -> dt.timedelta:
    rule = f"must be hours, more than 0 and up to {_MOST_HOURS}"
    try:
        hours = float(form.text("stale_after_hours", longest=16) or 26)
    except ValueError as exc:
        raise InvalidParameterError("stale_after_hours", rule) from exc
    if not 0 < hours <= _MOST_HOURS:
        raise InvalidParameterError("stale_after_hours", rule)
    return dt.timedelta(hours=hours)


def _two_strikes(form: Form) -> TwoStrikes | None:
    given = form.text("two_strikes")
    try:
        return TwoStrikes(given) if given else None
    except ValueError as exc:
        raise InvalidParameterError("two_strikes", f"must be {', '.join(TwoStrikes)}") from exc


def _certificates(form: Form) -> str | None:
    text = form.text("ca_pem", longest=200_000)
    return text.replace("\r\n", "\n") + "\n" if text else None
