"""Sends spans to an OpenTelemetry collector, by the library's own exporter."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator, Mapping
from importlib import import_module
from typing import Any

import structlog

from wharfinger import __version__
from wharfinger.domain import tracing
from wharfinger.domain.errors import ExtraMissingError
from wharfinger.domain.tracing import Kind, Span, Tracing, Value
from wharfinger.settings import Settings

log = structlog.get_logger()

EXTRA = "traces"
# How long the end of a process waits for a collector that does not answer.
CLOSE_WITHIN_S = 5.0
# How long one delivery may take.
DELIVER_WITHIN_S = 4.0


@contextlib.asynccontextmanager
async def traces(settings: Settings) -> AsyncIterator[None]:
    """Make spans and send them, if the environment names a place for them.

    Raises:
        ExtraMissingError: it does, and the library that sends them is not installed.
    """
    if settings.traces_endpoint is None:
        yield
        return
    provider = _provider(settings.traces_endpoint, settings.traces_service)
    log.info("traces.on", endpoint=settings.traces_endpoint)
    try:
        with tracing.installed(_tracing(provider)):
            yield
    finally:
        # Its last delivery is made by a thread of its own.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN_S):
                await asyncio.to_thread(provider.shutdown)


def _provider(endpoint: str, service: str) -> Any:
    try:
        sdk = import_module("opentelemetry.sdk.trace")
        export = import_module("opentelemetry.sdk.trace.export")
        resources = import_module("opentelemetry.sdk.resources")
        otlp = import_module("opentelemetry.exporter.otlp.proto.http.trace_exporter")
    except ModuleNotFoundError as exc:
        raise ExtraMissingError("opentelemetry", EXTRA) from exc
    resource = resources.Resource.create({"service.name": service, "service.version": __version__})
    provider = sdk.TracerProvider(resource=resource, shutdown_on_exit=False)
    exporter = otlp.OTLPSpanExporter(endpoint=endpoint, timeout=DELIVER_WITHIN_S)
    provider.add_span_processor(export.BatchSpanProcessor(exporter))
    return provider


def _tracing(provider: Any) -> Tracing:
    # Imported here: it costs a tenth of a second, which a process without traces does without.
    api = import_module("opentelemetry.trace")
    carrying = import_module("opentelemetry.trace.propagation.tracecontext")
    propagator = carrying.TraceContextTextMapPropagator()
    tracer = provider.get_tracer("wharfinger", __version__)

    @contextlib.contextmanager
    def begin(
        name: str, kind: Kind, attributes: Mapping[str, Value], carried: Mapping[str, str]
    ) -> Iterator[Span]:
        with tracer.start_as_current_span(
            name,
            context=propagator.extract(carried) if carried else None,
            kind=api.SpanKind[kind.upper()],
            attributes=_named(attributes),
            # A message may quote what a registry or a caller has sent.
            record_exception=False,
            set_status_on_exception=False,
        ) as one:
            span = _SdkSpan(one, api)
            try:
                yield span
            except Exception as error:
                span.fail(getattr(error, "code", None) or type(error).__name__)
                raise

    return Tracing(begin=begin, inject=propagator.inject)


class _SdkSpan(Span):
    """A span that is made."""

    def __init__(self, span: Any, api: Any) -> None:
        self._span = span
        self._api = api

    def tell(self, **attributes: Value) -> None:
        self._span.set_attributes(_named(attributes))

    def rename(self, name: str) -> None:
        self._span.update_name(name)

    def fail(self, what: str) -> None:
        self._span.set_attribute("error.type", what)
        self._span.set_status(self._api.Status(self._api.StatusCode.ERROR, what))


# What OpenTelemetry calls by a name with an underscore of its own.
_NAMES = {
    "http_request_method": "http.request.method",
    "http_response_status_code": "http.response.status_code",
    "db_system_name": "db.system.name",
    "db_query_text": "db.query.text",
}


def _named(attributes: Mapping[str, Value]) -> dict[str, Value]:
    return {_NAMES.get(key, key.replace("_", ".")): value for key, value in attributes.items()}
