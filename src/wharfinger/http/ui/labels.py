"""Pages about labels: whose a registry, a namespace or a repository is, and what it is for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlencode

from litestar import Response, get, post

from wharfinger.domain.errors import (
    CallerError,
    ConflictError,
    InvalidParameterError,
    NotFoundError,
)
from wharfinger.domain.labels import ENVIRONMENT, OWNER, Label, Place, by_place, in_force
from wharfinger.http.parameters import MAX_INT64
from wharfinger.http.services import Services, TheServices
from wharfinger.http.ui.choices import registry_names
from wharfinger.http.ui.pages import go, page, status_of
from wharfinger.http.ui.visit import Form, TheVisit, Visit
from wharfinger.store.registries import RepositoryStatus

LIST = "wharfinger:labels:list"
SET = "wharfinger:labels:set"
# How much of a registry a label is of.
LEVELS = ("registry", "namespace", "repository")
_HERE = "/console/settings/labels"
_LABELS, _REPOSITORIES = 100, 50
_FIELDS = ("registry_id", "level", "namespace", "repository", "key", "value")


@get("/settings/labels", action=LIST)
async def list_labels(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show labels where they were put: all, or those that are looked for."""
    query = visit.query.without_blanks()
    wanted = {
        "registry_id": query.text("registry_id", longest=64) or "",
        "text": query.text("text", longest=255) or "",
    }
    start = query.integer("after", smallest=0, largest=MAX_INT64) or 0
    every = await services.labels.list(visit.caller)
    found = [one for one in every if _is_wanted(one, wanted["registry_id"], wanted["text"])]
    asked = {name: value for name, value in wanted.items() if value}
    more = start + _LABELS if len(found) > start + _LABELS else None
    return page(
        visit,
        "labels.html",
        labels=found[start : start + _LABELS],
        count=len(found),
        level_of=level_of,
        fields_of=fields_of,
        registries=_registries_of(every) | await registry_names(visit, services),
        wanted=wanted,
        first=urlencode(asked) if start else None,
        next=urlencode(asked | {"after": more}) if more else None,
    )


def _is_wanted(one: Label, registry_id: str, text: str) -> bool:
    """Whether a label is of a registry, and has a text in its place, or as its ``key=value``."""
    if registry_id and one.registry_id != registry_id:
        return False
    place = "/".join(part for part in (one.registry, one.namespace, one.repository) if part)
    return any(text.casefold() in where.casefold() for where in (place, f"{one.key}={one.value}"))


def _registries_of(labels: Sequence[Label]) -> dict[str, str]:
    return {one.registry_id: one.registry for one in labels}


def level_of(one: Label) -> str:
    """How much of its registry a label is of."""
    if one.namespace is None:
        return "registry"
    return "namespace" if one.repository is None else "repository"


def fields_of(one: Label) -> Mapping[str, str]:
    """What a form has to say to mean a label, its value aside."""
    return {
        "registry_id": one.registry_id,
        "level": level_of(one),
        "namespace": one.namespace or "",
        "repository": one.repository or "",
        "key": one.key,
    }


@get("/settings/labels/repositories", action=LIST)
async def list_labelled_repositories(visit: TheVisit, services: TheServices) -> Response[str]:
    """Show what the repositories of a registry are labelled with, and where that comes from."""
    query = visit.query.without_blanks()
    names = await registry_names(visit, services)
    registry_id = query.text("registry_id", longest=64) or next(iter(names), "")
    after = query.integer("after", smallest=0, largest=MAX_INT64) or 0
    if registry_id and registry_id not in names:
        raise NotFoundError(f"there is no registry {registry_id}")
    found: Sequence[RepositoryStatus] = []
    if registry_id:
        found = await services.registries.repositories(
            visit.caller, registry_id, after=after, limit=_REPOSITORIES
        )
    every = await services.labels.list(visit.caller)
    put = by_place(one for one in every if one.registry_id == registry_id)
    return page(
        visit,
        "labelled_repositories.html",
        registries=names,
        registry_id=registry_id,
        rows=[(one, in_force(put, one.namespace, one.name)) for one in found],
        level_of=level_of,
        form_for=_form_for,
        first=urlencode({"registry_id": registry_id}) if after else None,
        next=(
            urlencode({"registry_id": registry_id, "after": found[-1].id})
            if len(found) == _REPOSITORIES
            else None
        ),
    )


def _form_for(registry_id: str, namespace: str, repository: str) -> str:
    """The address of the form that labels a repository."""
    place = {"namespace": namespace, "repository": repository}
    asked = {"registry_id": registry_id, "level": "repository", **place}
    return f"{_HERE}/put?{urlencode(asked)}"


# --- putting and taking away ----------------------------------------------------------------------


@get("/settings/labels/put", action=SET)
async def show_label_form(visit: TheVisit, services: TheServices) -> Response[str]:
    """Ask for a label and its place; the address may fill the form in."""
    given = {name: visit.query.text(name, longest=255, shortest=0) or "" for name in _FIELDS}
    return await _form(visit, services, given)


@post("/settings/labels/put", status_code=303, action=SET)
async def put_label(visit: TheVisit, services: TheServices) -> Response[Any]:
    """Put a label, in place of another of the same key."""
    form = visit.form
    try:
        place = _place(form)
        key, value = form.text("key"), form.text("value")
        await services.labels.put(visit.caller, place, key, value)
    except (InvalidParameterError, ConflictError, NotFoundError) as error:
        return await _form(visit, services, form.given(), refused=error)
    return go(_HERE, note="label_put")


@post("/settings/labels/remove", status_code=303, action=SET)
async def remove_label(visit: TheVisit, services: TheServices) -> Response[Any]:
    """Take a label away from where it was put; what lies within may inherit another then."""
    await services.labels.remove(visit.caller, _place(visit.form), visit.form.text("key"))
    return go(_HERE, note="label_removed")


def _place(form: Form) -> Place:
    level = form.text("level")
    if level not in LEVELS:
        raise InvalidParameterError("level", f"must be {' or '.join(LEVELS)}")
    # A repository may lie in no namespace, and that is a namespace to put a label on, too.
    return Place(
        registry=form.text("registry_id", longest=128, shortest=1),
        namespace=None if level == "registry" else form.text("namespace", longest=255),
        repository=(
            form.text("repository", longest=255, shortest=1) if level == "repository" else None
        ),
    )


async def _form(
    visit: Visit,
    services: Services,
    values: Mapping[str, str],
    *,
    refused: CallerError | None = None,
) -> Response[str]:
    problem = None if refused is None else _on_the_form(refused)
    return page(
        visit,
        "label_form.html",
        status=status_of(refused),
        registries=await registry_names(visit, services),
        levels=LEVELS,
        usual_keys=(OWNER, ENVIRONMENT),
        values=values,
        problem=problem,
        refused=refused,
    )


def _on_the_form(error: CallerError) -> InvalidParameterError:
    if isinstance(error, InvalidParameterError):
        return error
    field = "registry_id" if isinstance(error, NotFoundError) else ""
    return InvalidParameterError(field, str(error))
