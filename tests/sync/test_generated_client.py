"""A client that nobody wrote, made from the document that the service serves, and at work."""

from __future__ import annotations

import asyncio
import datetime as dt
import importlib
import json
import pkgutil
import re
import sys
import time
import urllib.request

import pytest

from generated_client import PACKAGE, generate
from http_port import serving


def fetched(url):
    with urllib.request.urlopen(url, timeout=20) as answer:
        return json.load(answer)


@pytest.fixture
async def service(yard):
    async with serving(yard.house) as url:
        yield url


@pytest.fixture(scope="module")
def generated(tmp_path_factory):
    """What was made of a document: the folder, and the warnings. Each is made once."""
    made = {}

    def of(document):
        key = json.dumps(document)
        if key not in made:
            folder = tmp_path_factory.mktemp("client")
            made[key] = folder, generate(document, folder)
        return made[key]

    return of


@pytest.fixture
async def client(yard, service, generated, monkeypatch):
    """The client made from what this service says of itself, with a token of its project."""
    document = await asyncio.to_thread(fetched, f"{service}/api/openapi.json")
    folder, warnings = await asyncio.to_thread(generated, document)
    monkeypatch.syspath_prepend(folder)
    made = Client(service, yard.caller.project_id, document, warnings, await token_of(yard))
    yield made
    made.session.get_httpx_client().close()
    for name in [name for name in sys.modules if name.partition(".")[0] == PACKAGE]:
        del sys.modules[name]


async def token_of(yard):
    return await yard.house.callers.create_token(yard.caller.project_id, dt.timedelta(hours=1))


class Client:
    """The generated package, and what it was made from."""

    def __init__(self, url, project_id, document, warnings, token):
        self.document, self.warnings, self.project_id = document, warnings, project_id
        self.models = importlib.import_module(f"{PACKAGE}.models")
        self.functions = dict(self._functions())
        kind = importlib.import_module(PACKAGE).AuthenticatedClient
        self.session = kind(url, token, prefix="", auth_header_name="X-Auth-Token")

    def _functions(self):
        api = importlib.import_module(f"{PACKAGE}.api")
        for found in pkgutil.walk_packages(api.__path__, f"{api.__name__}."):
            module = importlib.import_module(found.name)
            if hasattr(module, "sync_detailed"):
                yield found.name.rpartition(".")[2], module

    def call(self, operation, *ids, **given):
        """Call an operation of this project; return status and the parsed answer."""
        function = self.functions[operation].sync_detailed
        answer = function(self.project_id, *ids, client=self.session, **given)
        return answer.status_code, answer.parsed

    def good(self, operation, *ids, **given):
        status, parsed = self.call(operation, *ids, **given)
        assert status == 200, parsed
        return parsed

    def pages(self, operation, **given):
        after = None
        while True:
            page = self.good(operation, **given, **({"after": after} if after else {}))
            yield page
            after = page.next_
            if after is None:
                return

    def lines(self, operation, **given):
        """The lines of an answer that is read as it comes."""
        asked = self.functions[operation]._get_kwargs(self.project_id, **given)
        accepted = {"Accept": "application/x-ndjson"}
        with self.session.get_httpx_client().stream(**asked, headers=accepted) as answer:
            assert answer.headers["Content-Type"] == accepted["Accept"]
            yield from map(json.loads, answer.iter_lines())

    def ended(self, task_id):
        deadline = time.monotonic() + 30
        while True:
            (task,) = self.good("hss_list_tasks", type_="image_sync", task_id=task_id).data_list
            if task.end_time is not None:
                return task
            assert time.monotonic() < deadline, task
            time.sleep(0.05)


def test_of_every_operation_a_function_is_made_without_a_warning(client):
    ids = [
        one["operationId"] for item in client.document["paths"].values() for one in item.values()
    ]

    assert client.warnings == []
    assert sorted(client.functions) == sorted(re.sub(r"\W+|_+", "_", one).strip("_") for one in ids)
    assert len(ids) > 50


def reads(client):
    """All that a script of a tenant's does with the client; every call blocks."""
    body = client.models.SynchronizeTaskRequest(sync_all_registries=True)
    started = client.good("hss_create_image_synchronize_task", body=body)
    task = client.ended(started.task_id)
    pages = list(client.pages("wharfinger_list_images", limit=25))
    newest = pages[0].as_of
    return {
        "task": task.task_status,
        "registries": [
            (one.name, one.kind, one.verdict)
            for one in client.good("wharfinger_list_registry_verdicts").items
        ],
        "pages": [len(page.items) for page in pages],
        "images": {f"{i.namespace}/{i.name}:{i.tag}" for page in pages for i in page.items},
        "filtered": client.good("wharfinger_list_images", name=client.some_name, limit=1000).items,
        "large": client.good("wharfinger_list_images", limit=10_000).items,
        "lines": list(client.lines("wharfinger_list_images")),
        "past": client.good("wharfinger_list_images", as_of=newest, limit=1),
        "facets": client.good("wharfinger_list_facets"),
        "changes": [
            e for page in client.pages("wharfinger_list_changes", limit=40) for e in page.items
        ],
        "hss": client.good("hss_list_registry_images", limit=200, offset=0),
    }


async def test_a_client_made_from_the_document_synchronises_and_reads(yard, upstream, client):
    await yard.add_swr(upstream)
    client.some_name = next(iter(upstream.world.owned())).name

    told = await asyncio.to_thread(reads, client)

    held = {f"{r.namespace}/{r.name}:{t}" for r in upstream.world.owned() for t in r.tags}
    assert told["task"] == 100
    assert told["registries"] == [("swrprivate", "SwrPrivate", "complete")]
    assert told["pages"] == [25, 25, 10]
    assert told["images"] == held
    assert {image.name for image in told["filtered"]} == {client.some_name}
    assert len(told["filtered"]) == 5
    assert len(told["large"]) == len(held) == told["facets"].facets.total
    *lines, end = told["lines"]
    assert {f"{i['namespace']}/{i['name']}:{i['tag']}" for i in lines} == held
    assert (end["end"], end["images"]) == (True, len(held))
    assert isinstance(told["past"], client.models.PastAnswer)
    assert {event.kind for event in told["changes"]} == {"added"}
    assert len(told["changes"]) == told["hss"].total_num == len(held)


async def test_a_client_made_from_the_document_understands_errors(client):
    def refused():
        return (
            client.call("wharfinger_list_images", limit=10_001),
            client.call("hss_list_registry_images", limit=500),
            client.call("wharfinger_show_life", "12345678"),
        )

    (status, error), (hss_status, hss_error), (unknown_status, unknown) = await asyncio.to_thread(
        refused
    )

    assert (status, error.error_code) == (400, "invalid_parameter")
    assert error.error_msg.startswith("limit")
    assert (hss_status, type(hss_error)) == (400, client.models.HssError)
    assert hss_error.error_description
    assert (unknown_status, unknown.error_code) == (404, "not_found")
