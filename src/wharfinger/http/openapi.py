"""The OpenAPI 3.1 document, made from the routes themselves and what is described beside them."""

from __future__ import annotations

import inspect
import re
import types
import typing
from collections.abc import Iterable, Iterator
from typing import Any

import msgspec
from litestar import Litestar, Response, get
from litestar.handlers import HTTPRouteHandler
from litestar.response import Stream

from wharfinger.http.answers import GatewayError
from wharfinger.http.api.described import API
from wharfinger.http.described import Api, Operation, Schema
from wharfinger.http.failures import AnyRequest
from wharfinger.http.hss.described import HSS
from wharfinger.http.hss.not_offered import NOT_OFFERED
from wharfinger.http.iam.described import IAM
from wharfinger.http.root import CONSOLE, Health

PATH = "/api/openapi.json"
NDJSON = "application/x-ndjson"
ROOT = Api(
    tag="service",
    prefix="/",
    description="What belongs to no API.",
    errors={401: (GatewayError,), 503: (Health, GatewayError)},
    described={
        name: Operation(credentials=())
        for name in ("show_version", "show_health", "show_readiness", "show_openapi")
    }
    | {"show_metrics": Operation(credentials=("metrics",))},
)
APIS = (HSS, API, IAM, ROOT)
# What the edge may answer to any request, whatever it asks for.
_AT_THE_EDGE = dict.fromkeys((400, 408, 413, 414, 429, 494, 503), (GatewayError,))
_MEANINGS = {
    400: "The call is wrong; the message names the parameter and its range.",
    401: "Nobody we know.",
    403: "Not the caller's to ask for.",
    404: "It does not exist, or is somebody else's.",
    408: "The request did not arrive in time.",
    409: "The name or id is taken.",
    410: "History does not reach back so far.",
    413: "The body is too large.",
    414: "The path and query are too long.",
    429: "Too many requests; see Retry-After.",
    494: "The header fields are too large.",
    500: "A fault of ours.",
    503: "Not now; see Retry-After.",
}
_SCHEMES = {
    "token": {"type": "apiKey", "in": "header", "name": "X-Auth-Token"},
    "signature": {
        "type": "apiKey",
        "in": "header",
        "name": "Authorization",
        "description": "an AK/SK signature, such as SDK-HMAC-SHA256",
    },
    "notifications": {
        "type": "http",
        "scheme": "bearer",
        "description": "a registry's own token for notifications",
    },
    "metrics": {
        "type": "http",
        "scheme": "bearer",
        "description": "the token of the monitoring",
    },
}
_PATH_PARAMETER = re.compile(r"\{(\w+)(?::\w+)?\}")


@get(PATH)
async def show_openapi(request: AnyRequest) -> Response[bytes]:
    """Say what is served here, as OpenAPI 3.1; needs no credentials."""
    state = request.app.state
    if "openapi" not in state:
        state.openapi = msgspec.json.encode(describe(request.app))
    return Response(state.openapi, media_type="application/json")


def describe(app: Litestar) -> dict[str, Any]:
    """Make the document of an application."""
    routes = sorted(routes_of(app), key=lambda one: (one[1], one[0]))
    shapes = _Shapes()
    paths: dict[str, dict[str, Any]] = {}
    for method, path, handler in routes:
        paths.setdefault(path, {})[method.lower()] = _operation(method, path, handler, shapes)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Wharfinger",
            "version": "1",
            "description": "The list of every container image, through the HSS v5 API and our own.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": api.tag, "description": api.description} for api in APIS],
        "paths": paths,
        "components": {
            "responses": _error_responses(shapes),
            "schemas": shapes.components(),
            "securitySchemes": _SCHEMES,
        },
    }


def routes_of(app: Litestar) -> Iterator[tuple[str, str, HTTPRouteHandler]]:
    """Every route with its method and its path as OpenAPI writes it.

    Those that say that an operation is not offered are none.
    """
    for route in app.routes:
        for handler in getattr(route, "route_handlers", ()):
            # Pages are for people.
            if NOT_OFFERED in handler.opt or route.path.startswith(CONSOLE):
                continue
            for method in handler.http_methods - {"OPTIONS"}:
                yield method, _PATH_PARAMETER.sub(r"{\1}", route.path), handler


def api_of(path: str) -> Api:
    """Whose route it is."""
    return next(api for api in APIS if path.startswith(api.prefix))


def operation_of(path: str, handler: HTTPRouteHandler) -> Operation:
    """What is said of a route."""
    return api_of(path).described.get(handler.fn.__name__, Operation())


class _Shapes:
    """The shapes that the document speaks of; each is written down once."""

    def __init__(self) -> None:
        self._known: dict[Any, dict[str, Any]] = {Any: {}}

    def refer(self, *shapes: Any) -> Schema:
        """A reference to one shape, or to any of several. It is filled in by ``components``."""
        found = [self._known.setdefault(shape, {}) for shape in shapes]
        return found[0] if len(found) == 1 else {"anyOf": found}

    def components(self) -> dict[str, Any]:
        """All of them by name. Only now is it known which names are taken twice."""
        named = [shape for shape in self._known if shape is not Any]
        schemas, components = msgspec.json.schema_components(
            named, ref_template="#/components/schemas/{name}"
        )
        for shape, schema in zip(named, schemas, strict=True):
            self._known[shape].update(schema)
        return components


def _operation(
    method: str, path: str, handler: HTTPRouteHandler, shapes: _Shapes
) -> dict[str, Any]:
    api, said = api_of(path), operation_of(path, handler)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _PATH_PARAMETER.findall(path)
    ]
    parameters += [one.as_openapi() for one in (*api.query_of(said), *api.headers, *said.headers)]
    shown: dict[str, Any] = {
        "operationId": _operation_id(method, path, handler),
        "tags": [api.tag],
        "summary": (inspect.getdoc(handler.fn) or "").partition("\n")[0].replace("``", "`"),
        "parameters": parameters,
        "security": [{name: []} if name else {} for name in said.credentials],
        "responses": _responses(api, said, handler, shapes),
    }
    if said.body is not None:
        content = {"application/json": {"schema": shapes.refer(said.body)}}
        shown["requestBody"] = {"required": said.body_required, "content": content}
    return shown


def _operation_id(method: str, path: str, handler: HTTPRouteHandler) -> str:
    if len(handler.paths) == 1:
        return f"{api_of(path).tag}.{handler.fn.__name__}"
    return f"{api_of(path).tag}.{handler.fn.__name__}.{method.lower()}{path.replace('/', '_')}"


def _responses(
    api: Api, said: Operation, handler: HTTPRouteHandler, shapes: _Shapes
) -> dict[str, Any]:
    answers = _answers_of(handler)
    good: dict[str, Any] = {"description": "As asked.", "headers": _headers(said.answer_headers)}
    if answers:
        good["content"] = _content(shapes.refer(*answers))
    if said.lines:
        good["content"][NDJSON] = {"schema": {}, "x-line-schema": shapes.refer(*said.lines)}
    for media_type in said.files:
        good["content"][media_type] = {"schema": {}}
    found = {str(handler.status_code): good}
    if said.may_be_unchanged:
        found["304"] = {"description": "As you have it.", "headers": _headers(("ETag",))}
    errors = {
        str(status): {"$ref": f"#/components/responses/{api.tag}-{status}"}
        for status in _errors(api)
    }
    return found | errors


def _error_responses(shapes: _Shapes) -> dict[str, Any]:
    return {
        f"{api.tag}-{status}": {
            "description": _MEANINGS[status],
            "headers": _headers(("Retry-After",) if status == 429 else ()),
            "content": _content(shapes.refer(*kinds)),
        }
        for api in APIS
        for status, kinds in _errors(api).items()
    }


def _errors(api: Api) -> dict[int, tuple[Any, ...]]:
    return dict(sorted({**_AT_THE_EDGE, **api.errors}.items()))


def _answers_of(handler: HTTPRouteHandler) -> tuple[Any, ...]:
    """The shapes of a good answer, as the route's function declares them."""
    declared = typing.get_type_hints(handler.fn)["return"]
    is_union = typing.get_origin(declared) in {typing.Union, types.UnionType}
    arms = typing.get_args(declared) if is_union else (declared,)
    shapes = [typing.get_args(arm)[0] if _is_response(arm) else arm for arm in arms]
    # A stream is described beside the route, and bytes are JSON that was made before.
    named = [dict[str, Any] if shape is bytes else shape for shape in shapes if shape is not Stream]
    return tuple(shape for shape in named if shape is not type(None))


def _is_response(declared: Any) -> bool:
    return typing.get_origin(declared) is Response


def _content(schema: Schema) -> dict[str, Any]:
    return {"application/json": {"schema": schema}}


def _headers(names: Iterable[str]) -> dict[str, Any]:
    request_id = {
        "required": True,
        "schema": {"type": "string", "pattern": "^[0-9a-f]{32}$"},
    }
    return {"X-Request-Id": request_id} | {
        name: {"required": True, "schema": {"type": "string"}} for name in names
    }
