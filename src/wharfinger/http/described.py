"""What a route's own code does not show: its query, its body, its headers, and who may call it.

Beside the routes of each API stands a module ``described`` that says this for its routes, in these
words. Path, method, status, answer and summary are taken from the route itself.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Parameter:
    """One parameter of a query, a header field, or a cookie."""

    name: str
    schema: Schema
    required: bool = False
    description: str = ""
    place: str = "query"
    explode: bool = False

    def as_openapi(self) -> dict[str, Any]:
        """The parameter as OpenAPI writes it."""
        shown: dict[str, Any] = {"name": self.name, "in": self.place, "schema": self.schema}
        if self.required:
            shown["required"] = True
        if self.description:
            shown["description"] = self.description
        if self.schema.get("type") == "array":
            shown |= {"style": "form", "explode": self.explode}
        return shown


@dataclass(frozen=True, kw_only=True)
class Operation:
    """What is said of one route.

    Attributes:
        query: its parameters beside those that all routes of its API have.
        on_its_own: whether it has none of those.
        headers: header fields it reads.
        body: the shape of the body it reads; anything at all for ``Any``.
        body_required: whether a call without a body is an error.
        lines: the shapes of the lines that are streamed to who accepts ``application/x-ndjson``.
        files: media types of other tools that the same answer comes in to who accepts them.
        may_be_unchanged: whether the answer has an ``ETag``, and may be 304.
        answer_headers: header fields of a good answer beside those that all answers have.
        credentials: what opens it, by the names of the document's security schemes.
    """

    query: tuple[Parameter, ...] = ()
    on_its_own: bool = False
    headers: tuple[Parameter, ...] = ()
    body: Any = None
    body_required: bool = True
    lines: tuple[type, ...] = ()
    files: tuple[str, ...] = ()
    may_be_unchanged: bool = False
    answer_headers: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ("token", "signature")


@dataclass(frozen=True, kw_only=True)
class Api:
    """One API: where it lives, what all its routes have, and which errors they answer with.

    Attributes:
        errors: the shapes that the body of a status may have.
        described: what is said of each route, by the name of its function. A route without
            query, body and further headers needs no entry.
    """

    tag: str
    prefix: str
    description: str
    errors: Mapping[int, tuple[type, ...]]
    described: Mapping[str, Operation]
    query: tuple[Parameter, ...] = ()
    headers: tuple[Parameter, ...] = ()

    def query_of(self, said: Operation) -> tuple[Parameter, ...]:
        """Every query parameter of a route."""
        return said.query if said.on_its_own else (*self.query, *said.query)


def text(name: str, *, longest: int, shortest: int = 1, required: bool = False) -> Parameter:
    """A text, as ``Parameters.text`` reads it."""
    schema = {"type": "string", "minLength": shortest, "maxLength": longest}
    return Parameter(name=name, schema=schema, required=required)


def integer(name: str, *, smallest: int, largest: int) -> Parameter:
    """A whole number, as ``Parameters.integer`` reads it."""
    return Parameter(name=name, schema={"type": "integer", "minimum": smallest, "maximum": largest})


def flag(name: str) -> Parameter:
    """``true`` or ``false``, as ``Parameters.flag`` reads it."""
    return Parameter(name=name, schema={"type": "boolean"})


def choice(name: str, allowed: Collection[str], *, required: bool = False) -> Parameter:
    """One of a few words, as ``Parameters.choice`` reads it."""
    return Parameter(name=name, schema={"type": "string", "enum": list(allowed)}, required=required)


def choices(name: str, allowed: Collection[str]) -> Parameter:
    """Some of a few words, with commas between them, as ``Parameters.choices`` reads them."""
    words = {"type": "string", "enum": list(allowed)}
    return Parameter(name=name, schema={"type": "array", "items": words, "minItems": 1})


def repeated(name: str, *, longest: int, most: int) -> Parameter:
    """A text that may be given several times, as ``Parameters.all`` reads it."""
    item = {"type": "string", "minLength": 1, "maxLength": longest}
    schema = {"type": "array", "items": item, "maxItems": most}
    return Parameter(name=name, schema=schema, explode=True)


def moment(name: str) -> Parameter:
    """A time with its offset, as ``ApiCall.moment`` reads it."""
    return Parameter(name=name, schema={"type": "string", "format": "date-time"})


def any_text(name: str, description: str = "") -> Parameter:
    """Whatever text there is, as ``Parameters.raw`` reads it."""
    return Parameter(name=name, schema={"type": "string"}, description=description)
