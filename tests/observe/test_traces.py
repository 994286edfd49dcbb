"""A trace goes from the call through the queue to the last statement, and holds no secret."""

from __future__ import annotations

import asyncio
import contextlib
import datetime as dt
import subprocess
import sys

import aiohttp
import pytest
from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from http_port import serving
from leaks import LEAKS
from wharfinger.domain.errors import ExtraMissingError, SetupError
from wharfinger.service.telemetry import traces
from wharfinger.settings import read_settings
from yard import PROJECT, yard_with

TRACE, PARENT = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


class Collector:
    """Takes spans over OTLP/HTTP, as a collector does."""

    def __init__(self) -> None:
        self.spans = []
        self.services = set()
        self.url = ""

    @contextlib.asynccontextmanager
    async def running(self):
        app = web.Application(client_max_size=64 * 1024**2)
        app.router.add_post("/v1/traces", self._take)
        runner = web.AppRunner(app)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        try:
            yield self
        finally:
            await runner.cleanup()

    async def _take(self, request):
        message = ExportTraceServiceRequest()
        message.ParseFromString(await request.read())
        for resource in message.resource_spans:
            self.services |= {
                a.value.string_value
                for a in resource.resource.attributes
                if a.key == "service.name"
            }
            for scope in resource.scope_spans:
                self.spans += scope.spans
        return web.Response(content_type="application/x-protobuf")

    def of(self, trace: str) -> list:
        return [span for span in self.spans if span.trace_id.hex() == trace]


def attributes(span) -> dict[str, str]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@pytest.fixture
async def collector():
    async with Collector().running() as running:
        yield running


async def test_one_trace_leads_from_the_call_to_the_last_statement(
    database_address, owner_connection, tmp_path, upstream, collector
):
    places = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "harbourmaster"}
    async with yard_with(database_address, owner_connection, tmp_path, **places) as yard:
        await yard.add_swr(upstream)
        token = await yard.house.callers.create_token(PROJECT, dt.timedelta(minutes=5))
        async with (
            serving(yard.house) as url,
            aiohttp.ClientSession(headers={"X-Auth-Token": token}) as session,
            session.post(
                f"{url}/v5/{PROJECT}/image/synchronize?secret=in-the-query",
                json={"image_type": "private_image"},
                headers={"traceparent": f"00-{TRACE}-{PARENT}-01"},
            ) as answer,
        ):
            assert answer.status == 200
            await yard.quiet()
            async with session.get(f"{url}/healthz"):
                pass

    spans = collector.of(TRACE)
    ids = {span.span_id.hex() for span in spans}
    names = {span.name for span in spans}
    assert collector.services == {"harbourmaster"}
    calls = [span for span in spans if span.parent_span_id.hex() == PARENT]
    assert len(calls) == 1, "the trace that came with the call is not gone on with"
    call = calls[0]
    assert call.name == "POST /v5/{project_id}/image/synchronize"
    assert attributes(call)["http.response.status_code"] == 200
    assert {"wharfinger.plan", "wharfinger.read", "wharfinger.finish"} <= names
    assert {span.parent_span_id.hex() for span in spans if span is not call} <= ids, "torn apart"

    requests = [span for span in spans if "url.full" in attributes(span)]
    assert {attributes(s)["http.response.status_code"] for s in requests} == {200}
    assert all(attributes(span)["url.full"].startswith(upstream.url) for span in requests)
    assert not any("?" in attributes(span)["url.full"] for span in requests), "a query is told"
    told = [attributes(span) for span in spans]
    statements = [one["db.query.text"] for one in told if "db.query.text" in one]
    assert any(text.startswith("COPY") for text in statements)
    assert any("state = 'finished'" in text for text in statements)
    (run,) = {one["wharfinger.run"] for one in told if "wharfinger.run" in one}
    assert run == str(yard.value("SELECT id FROM run"))
    assert not any("healthz" in span.name for span in collector.spans)

    everything = "\n".join(map(str, collector.spans))
    LEAKS.look(everything, "a trace")
    for secret in (token, upstream.key.secret_key, upstream.key.access_key, "in-the-query"):
        assert secret not in everything


async def test_a_collector_that_does_not_answer_keeps_nobody_waiting(
    database_address, owner_connection, tmp_path, upstream
):
    async with asyncio.timeout(60):
        async with yard_with(
            database_address,
            owner_connection,
            tmp_path,
            OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="http://127.0.0.1:9/v1/traces",
        ) as yard:
            await yard.add_swr(upstream)
            run = await yard.sync()

    assert run.images == 60


@pytest.mark.parametrize(
    ("environment", "endpoint"),
    [
        ({}, None),
        ({"OTEL_SERVICE_NAME": "x"}, None),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318/"}, "http://c:4318/v1/traces"),
        (
            {
                "OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318",
                "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "https://t/in",
            },
            "https://t/in",
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, "http://localhost:4318/v1/traces"),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_TRACES_EXPORTER": "none"},
            None,
        ),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "TRUE"}, None),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://c:4318", "OTEL_SDK_DISABLED": "no"},
            "http://c:4318/v1/traces",
        ),
    ],
)
def test_the_standard_variables_say_whether_and_where_to(environment, endpoint):
    assert read_settings({}, environment).traces_endpoint == endpoint


def test_a_protocol_that_is_not_spoken_is_said_to_be_so():
    with pytest.raises(SetupError, match=r"OTEL_EXPORTER_OTLP_PROTOCOL: .* http/protobuf"):
        read_settings({}, {"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"})


async def test_without_the_extra_one_error_names_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    settings = read_settings({}, {"OTEL_TRACES_EXPORTER": "otlp"})

    with pytest.raises(ExtraMissingError, match=r"wharfinger\[traces\]"):
        async with traces(settings):
            pass


def test_a_command_loads_neither_the_library_of_traces_nor_that_of_metrics():
    program = (
        "import sys, wharfinger.cli\n"
        "print([m for m in ('opentelemetry', 'prometheus_client', 'litestar') if m in sys.modules])"
    )

    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )

    assert done.stdout == "[]\n"
