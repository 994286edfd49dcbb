"""The form of a webhook: who is told, and what of it all."""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection, Mapping

import msgspec

from wharfinger.domain.errors import CallerError, InvalidParameterError, NotFoundError
from wharfinger.domain.labels import read_filter
from wharfinger.domain.webhooks import NewWebhook, Webhook, WebhookChange
from wharfinger.http.parameters import MAX_INT64, checked_text
from wharfinger.http.ui.visit import Form

_MOST_HOURS = 30 * 24
# What the service calls it, and what the form does.
_FIELDS = {"label": "labels", "key": "labels", "value": "labels"}


class Filled(msgspec.Struct, frozen=True, kw_only=True):
    """What stands in the form; ``types`` and ``registries`` are those that are ticked."""

    values: Mapping[str, str]
    types: Collection[str] = ()
    registries: Collection[str] = ()


def empty() -> Filled:
    """What stands in the form of a webhook that is to be added."""
    return Filled(values={"batch": "1"})


def filled(before: Webhook) -> Filled:
    """What stands in the form of a webhook that there is; its URL is shown to nobody."""
    values = {
        "name": before.name,
        "pattern": before.pattern or "",
        "labels": "\n".join(f"{key}={value}" for key, value in sorted(before.labels.items())),
        "batch": str(before.batch),
    }
    return Filled(values=values, types=before.types, registries=before.registries)


def given(form: Form) -> Filled:
    """What was filled in, to be corrected."""
    return Filled(values=form.given(), types=form.all("types"), registries=form.all("registries"))


def read_new(form: Form) -> NewWebhook:
    """Read what is to be added.

    Raises:
        InvalidParameterError: a field is not what it must be.
    """
    return NewWebhook(
        name=form.text("name", longest=128, shortest=1),
        url=form.text("url", longest=2048),
        types=tuple(form.all("types")),
        registries=_registries(form),
        pattern=form.text("pattern", longest=512) or None,
        labels=_labels(form),
        batch=_batch(form),
        from_number=form.number("from_number", smallest=0, largest=MAX_INT64),
    )


def read_change(form: Form, before: Webhook) -> WebhookChange:
    """Read what is to be changed; a URL that is left blank stays.

    Raises:
        InvalidParameterError: a field is not what it must be.
    """
    chosen = _registries(form)
    return WebhookChange(
        name=form.text("name", longest=128, shortest=1),
        url=form.text("url", longest=2048) or None,
        types=tuple(form.all("types")),
        # Those that stay as they are need not be found again: one may have been removed.
        registries=None if set(chosen) == set(before.registries) else chosen,
        pattern=form.text("pattern", longest=512),
        labels=_labels(form),
        batch=_batch(form),
    )


def read_keep_old(form: Form) -> dt.timedelta:
    """Read for how long the old secret signs beside the new one.

    Raises:
        InvalidParameterError: it is no number of hours, or longer than 30 days.
    """
    hours = form.number("keep_old_hours", smallest=0, largest=_MOST_HOURS)
    return dt.timedelta(hours=hours or 0)


def on_the_form(error: CallerError) -> InvalidParameterError:
    """The complaint as the form has it: about one of its fields, or about none (``""``)."""
    if isinstance(error, InvalidParameterError):
        return InvalidParameterError(_FIELDS.get(error.parameter, error.parameter), error.rule)
    if isinstance(error, NotFoundError):
        return InvalidParameterError("registries", str(error))
    name, is_named, rule = str(error).partition(": ")
    return InvalidParameterError(name, rule) if is_named else InvalidParameterError("", str(error))


def _registries(form: Form) -> tuple[str, ...]:
    return tuple(checked_text("registries", one, 128) for one in form.all("registries"))


def _batch(form: Form) -> int:
    given = form.number("batch", smallest=0, largest=MAX_INT64)
    return 1 if given is None else given


def _labels(form: Form) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in form.lines("labels"):
        key, value = read_filter(line)
        if key in found:
            raise InvalidParameterError("labels", f"must name {key!r} once")
        found[key] = value
    return found
