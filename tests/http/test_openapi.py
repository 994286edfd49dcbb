"""The OpenAPI document says what is served: every route, every parameter, and true answers."""

from __future__ import annotations

import datetime as dt
import inspect
import json
import re
import uuid
from urllib.parse import urlencode

import jsonschema
import pytest
from clients import call
from house import TASK_ID, run_progress

from rows import AT
from wharfinger.domain.model import TaskProgress
from wharfinger.http import described
from wharfinger.http.app import create_app
from wharfinger.http.openapi import PATH, api_of, describe, operation_of, routes_of
from wharfinger.http.parameters import Parameters
from wharfinger.identity.passwords import hash_password

APP = create_app(None)._app
ROUTES = {
    f"{method} {path}": (method, path, handler)
    for method, path, handler in sorted(routes_of(APP), key=lambda one: one[:2])
}
KNOWN_IDS = ("project_id", "registry_id", "task_id", "image_id")
PASSWORD = "correct-horse"
HASH = hash_password(PASSWORD)
READERS = {
    "text": described.text,
    "integer": described.integer,
    "flag": described.flag,
    "choice": described.choice,
    "choices": described.choices,
    "all": described.repeated,
}


@pytest.fixture
def route(request):
    return ROUTES[request.param]


every_route = pytest.mark.parametrize("route", list(ROUTES), indirect=True)


@pytest.fixture
def reads(monkeypatch):
    """The query parameters that are read while a request is answered: name, and how."""
    found = {}

    def recording(how):
        read = getattr(Parameters, how)

        def record(self, name, *given, **named):
            found.setdefault(name, (how, given, named))
            return read(self, name, *given, **named)

        return record

    for how in (*READERS, "raw"):
        monkeypatch.setattr(Parameters, how, recording(how))
    return found


def sample(parameter):
    """A value that the schema allows."""
    schema = parameter.schema
    if schema["type"] == "array":
        return schema["items"].get("enum", ["owner=x"])[0]
    if "enum" in schema:
        return schema["enum"][0]
    if schema.get("format") == "date-time":
        return "2026-11-01T00:00:00Z"
    return {"string": "x", "integer": schema.get("minimum"), "boolean": "true"}[schema["type"]]


def module_of(path):
    """The file that describes a route."""
    package = {"wharfinger": "api"}.get(api_of(path).tag, api_of(path).tag)
    return f"src/wharfinger/http/{package}/described.py"


# Bodies that are answered well, where there is one; all other routes get an empty object.
BODIES = {
    "run_image_synchronize": {"image_type": "private_image"},
    "create_image_synchronize_task": {"sync_all_registries": True},
    "accept_held": {"all": True},
    "create_token": {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": {"password": PASSWORD}}}
        }
    },
    "create_temporary_key": {"auth": {"identity": {"methods": ["token"]}}},
}


def body_for(handler, tenant):
    body = json.loads(json.dumps(BODIES.get(handler.fn.__name__, {})))
    if handler.fn.__name__ == "create_token":
        user = body["auth"]["identity"]["password"]["user"]
        user |= {"name": "alice", "domain": {"id": tenant.id}}
    return body


def parameters_of(path, handler):
    return api_of(path).query_of(operation_of(path, handler))


def queries(parameters):
    """One with what is required, and one with each other parameter."""
    needed = {one.name: sample(one) for one in parameters if one.required}
    yield needed
    for one in parameters:
        if not one.required:
            yield needed | {one.name: sample(one)}


@pytest.fixture
def world(house, tenant):
    """A project that has something to say on every route."""
    registry = tenant.registry()
    image = tenant.image(registry, tenant.repository(registry))
    create = house.principals.create_user
    house.run(create(tenant.id, "alice", kind="account", password_hash=HASH))
    runs = (run_progress(),)
    house.synchroniser.progress = [
        TaskProgress(
            id=TASK_ID,
            name="image synchronisation",
            sync_type="manualSync",
            created_at=AT,
            finished_at=AT,
            runs=runs,
        )
    ]
    known = (tenant.id, str(registry), TASK_ID, str(image))
    return dict(zip(KNOWN_IDS, known, strict=True))


def subject(house, tenant):
    """A token that may be taken back."""
    return house.run(house.callers.create_token(tenant.id, dt.timedelta(hours=1)))


def ask(house, tenant, world, method, path, query=(), body=None):
    filled = re.sub(r"\{(\w+)\}", lambda found: world.get(found[1], str(uuid.UUID(int=0))), path)
    return call(
        house,
        f"{filled}?{urlencode(dict(query))}",
        method=method,
        token=tenant.token,
        body=json.dumps(body).encode() if method in {"POST", "PUT"} else None,
        headers={"X-Subject-Token": subject(house, tenant)},
    )


@every_route
def test_every_query_parameter_that_is_read_is_described_as_it_is_read(
    house, tenant, world, reads, route
):
    method, path, handler = route
    where = f"{module_of(path)}, in the query of the entry {handler.fn.__name__!r}"
    known = {one.name: one for one in parameters_of(path, handler)}

    for query in queries(known.values()):
        ask(house, tenant, world, method, path, query, body_for(handler, tenant))

    assert set(reads) - set(known) == set(), f"read, but not described: add it to {where}"
    assert set(known) - set(reads) == set(), f"described, but not read: remove it from {where}"
    for name, (how, given, named) in reads.items():
        if how in READERS:
            expected = READERS[how](name, *given, **named).schema
            assert known[name].schema == expected, f"{name} is read otherwise: mend it in {where}"


@every_route
def test_every_body_that_is_read_is_described(route):
    _, path, handler = route

    read = re.findall(r"read_body\([^,]+?,\s*(\w+)\)", inspect.getsource(handler.fn))
    shape = operation_of(path, handler).body
    told = [shape.__name__] if hasattr(shape, "__struct_fields__") else []

    assert told == read, f"the body of {handler.fn.__name__!r} in {module_of(path)} is another"


def test_every_description_is_of_a_route_that_exists():
    served = {(api_of(path).tag, handler.fn.__name__) for _, path, handler in ROUTES.values()}
    told = {
        (api.tag, name)
        for api in map(api_of, (p for _, p, _ in ROUTES.values()))
        for name in api.described
    }

    assert told - served == set()


def document_of(house):
    status, headers, body = call(house, PATH)
    assert (status, headers["Content-Type"]) == (200, "application/json")
    return body


def test_the_document_is_served_to_anybody_and_names_every_route(house):
    document = document_of(house)

    named = {(m.upper(), path) for path, item in document["paths"].items() for m in item}
    ids = [one["operationId"] for item in document["paths"].values() for one in item.values()]
    assert document["openapi"] == "3.1.0"
    assert named == {(method, path) for method, path, _ in ROUTES.values()}
    assert len(set(ids)) == len(ids)
    assert all(one["summary"] for item in document["paths"].values() for one in item.values())


def test_every_reference_in_the_document_leads_somewhere():
    document = describe(APP)
    references = set(re.findall(r'"\$ref": "#/([^"]+)"', json.dumps(document)))

    assert references
    for reference in references:
        found = document
        for step in reference.split("/"):
            found = found[step]
        assert found


def test_every_schema_has_a_name_that_programs_can_have():
    names = list(describe(APP)["components"]["schemas"])

    assert [name for name in names if not re.fullmatch(r"[A-Za-z_]\w*", name)] == []


@every_route
def test_an_answer_has_the_shape_that_the_document_promises(house, tenant, world, route):
    method, path, handler = route
    document = document_of(house)
    promised = document["paths"][path][method.lower()]["responses"]
    good = False
    for query in queries(parameters_of(path, handler)):
        body = body_for(handler, tenant)
        status, headers, answer = ask(house, tenant, world, method, path, query, body)
        response = promised[str(status)]
        if "$ref" in response:
            response = document["components"]["responses"][response["$ref"].rpartition("/")[2]]
        else:
            good = True
        assert {name for name in response["headers"] if name not in headers} == set()
        for shape in list(response.get("content", {}).values())[:1]:
            jsonschema.validate(answer, {**shape["schema"], "components": document["components"]})
    assert good or not is_answerable(method, path, handler), "no answer was a good one"


def is_answerable(method, path, handler):
    """Whether the world has what the route is asked for; the monitoring's token it has not."""
    if handler.fn.__name__ == "show_metrics":
        return False
    ids = set(re.findall(r"\{(\w+)\}", path))
    return ids <= set(KNOWN_IDS) and (method == "GET" or handler.fn.__name__ in BODIES)
