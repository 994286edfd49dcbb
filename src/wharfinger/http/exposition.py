"""What Prometheus reads: the counts of the installation, and what this process does itself."""

from __future__ import annotations

import hmac
import platform
from collections import defaultdict
from collections.abc import Awaitable, Iterable
from typing import Any, Protocol

from prometheus_client import (
    CollectorRegistry,
    Counter,
    GCCollector,
    Histogram,
    PlatformCollector,
    ProcessCollector,
    disable_created_metrics,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
)
from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric as Family

from wharfinger import __version__
from wharfinger.domain.metrics import BY_NAME, HTTP_ENDS, METRICS, Metric

Samples = Iterable[tuple[str, tuple[str, ...], float]]

# A time of creation beside every count would double what is sent, and nobody asks for it.
disable_created_metrics()  # type: ignore[no-untyped-call]

_METHODS = frozenset({"DELETE", "GET", "HEAD", "OPTIONS", "PATCH", "POST", "PUT"})


class Observations(Protocol):
    """Where the counts of the installation are; ``service.metering.Metering``."""

    def observe(self) -> Awaitable[Samples | None]:
        """How the installation stands; ``None`` while the database does not answer."""
        ...

    def pool(self) -> Any:
        """The database connections of this process."""
        ...


class Exposition:
    """Words all metrics for Prometheus.

    Args:
        observations: the counts of the installation.
        token: what a scrape must bring to the public port; none can without one.
    """

    def __init__(self, observations: Observations, *, token: str | None = None) -> None:
        self._observations = observations
        self._token = token
        self._own = CollectorRegistry()
        for collector in (ProcessCollector, PlatformCollector, GCCollector):
            collector(registry=self._own)
        self._requests = _own(Counter, "http_requests", self._own)
        self._durations = _own(
            Histogram, "http_request_duration_seconds", self._own, buckets=HTTP_ENDS
        )

    def answered(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count an answer. The route is its pattern: a path would be the caller's own text."""
        method = method if method in _METHODS else "other"
        self._requests.labels(method, route, str(status)).inc()
        self._durations.labels(method, route).observe(seconds)

    def admits(self, authorization: str) -> bool:
        """Whether a scrape has brought the token."""
        scheme, _, token = authorization.partition(" ")
        given = token.strip().encode()
        return (
            self._token is not None
            and scheme.lower() == "bearer"
            and hmac.compare_digest(given, self._token.encode())
        )

    async def word(self, accept: str) -> tuple[bytes, str]:
        """Word everything in the form that is preferred; returns the text and its type."""
        samples = await self._observations.observe()
        families = [*_families(samples or ()), *self._of_process(is_up=samples is not None)]
        encode, content_type = choose_encoder(accept)
        return encode(_Both(families, self._own)), content_type

    def _of_process(self, *, is_up: bool) -> Iterable[Family]:
        pool = self._observations.pool()
        yield InfoMetricFamily(
            "wharfinger_build",
            BY_NAME["build"].help,
            value={"version": __version__, "python": platform.python_version()},
        )
        yield from _families(
            [
                ("database_up", (), float(is_up)),
                ("database_pool_connections", ("used",), pool.used),
                ("database_pool_connections", ("idle",), pool.idle),
                ("database_pool_waiting", (), pool.waiting),
            ]
        )


class _Both:
    """Families that were made for one scrape, and a registry's own."""

    def __init__(self, families: Iterable[Family], registry: CollectorRegistry) -> None:
        self._families = families
        self._registry = registry

    def collect(self) -> Iterable[Family]:
        yield from self._families
        yield from self._registry.collect()


def _own(kind: Any, name: str, registry: CollectorRegistry, **more: Any) -> Any:
    metric = BY_NAME[name]
    return kind(f"wharfinger_{name}", metric.help, metric.labels, registry=registry, **more)


def _families(samples: Samples) -> Iterable[Family]:
    found: defaultdict[str, list[tuple[tuple[str, ...], float]]] = defaultdict(list)
    for name, labels, value in samples:
        found[name].append((labels, value))
    for metric in METRICS:
        name = metric.name
        if metric.kind == "histogram" and f"{name}_sum" in found:
            yield _histogram(metric, found[f"{name}_bucket"], found[f"{name}_sum"])
        elif found[name] and metric.kind in ("gauge", "counter"):
            family = GaugeMetricFamily if metric.kind == "gauge" else CounterMetricFamily
            one = family(f"wharfinger_{name}", metric.help, labels=metric.labels)
            for labels, value in found[name]:
                # What an older or newer release counts by other labels is not this metric.
                if len(labels) == len(metric.labels):
                    one.add_metric(labels, value)
            yield one


def _histogram(
    metric: Metric,
    buckets: list[tuple[tuple[str, ...], float]],
    sums: list[tuple[tuple[str, ...], float]],
) -> Family:
    family = HistogramMetricFamily(f"wharfinger_{metric.name}", metric.help, labels=metric.labels)
    counted = dict(buckets)
    for labels, total in sums:
        cumulative, running = [], 0.0
        for end in (*(f"{end:g}" for end in metric.ends), "+Inf"):
            running += counted.get((*labels, end), 0.0)
            cumulative.append((end, running))
        family.add_metric(labels, cumulative, total)
    return family


def metrics_alone(exposition: Exposition) -> Any:
    """An ASGI application that serves metrics and nothing else, to whoever reaches it."""

    async def serve(scope: Any, receive: Any, send: Any) -> None:  # noqa: ARG001 - ASGI's own
        headers = {name: value.decode("latin-1") for name, value in scope["headers"]}
        status, text, content_type = 404, b"Metrics are at /metrics.\n", "text/plain"
        if scope["path"] == "/healthz":
            # A worker listens nowhere else, and who supervises it asks no database.
            status, text = 200, b"alive\n"
        elif scope["path"] == "/metrics" and scope["method"] in ("GET", "HEAD"):
            status = 200
            text, content_type = await exposition.word(headers.get(b"accept", ""))
        fields = [
            (b"content-type", content_type.encode()),
            (b"content-length", str(len(text)).encode()),
        ]
        await send({"type": "http.response.start", "status": status, "headers": fields})
        await send({"type": "http.response.body", "body": text})

    return serve
