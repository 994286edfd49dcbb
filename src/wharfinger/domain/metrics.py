"""Every metric that the service exports: its name, its kind, its labels and what it means."""

from __future__ import annotations

from typing import Literal

import msgspec


class Metric(msgspec.Struct, frozen=True):
    """One family of series.

    Attributes:
        name: without the prefix ``wharfinger_``, and of a counter without the ending ``_total``.
        kind: what Prometheus calls its type.
        labels: names of the labels, in the order of their values.
        help: what it counts or measures.
        scope: ``installation`` if every process tells the same, ``process`` if each tells its own.
        ends: upper ends of a histogram's buckets.
    """

    name: str
    kind: Literal["counter", "gauge", "histogram", "info"]
    labels: tuple[str, ...]
    help: str
    scope: Literal["installation", "process"] = "installation"
    ends: tuple[float, ...] = ()

    @property
    def exported(self) -> str:
        """The name of its series, as a query says it."""
        ending = {"counter": "_total", "info": "_info"}.get(self.kind, "")
        return f"wharfinger_{self.name}{ending}"


RUN_ENDS = (1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0, 14400.0)
HTTP_ENDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0)

# Hosts that are told apart; those beyond are counted together, as "other".
MOST_HOSTS = 100
OTHER = "other"


def _gauge(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, "gauge", labels, meaning)


def _counter(name: str, meaning: str, *labels: str) -> Metric:
    return Metric(name, "counter", labels, meaning)


def _own(
    name: str, kind: Literal["counter", "gauge", "histogram", "info"], meaning: str, *labels: str
) -> Metric:
    ends = HTTP_ENDS if kind == "histogram" else ()
    return Metric(name, kind, labels, meaning, "process", ends)


METRICS: tuple[Metric, ...] = (
    # --- how things stand ---
    _gauge("projects", "Projects (tenants)."),
    _gauge("registries", "Registries, by what their lists are worth now.", "kind", "verdict"),
    _gauge("images", "Images listed.", "kind"),
    _gauge("images_held", "Images held: absent from a list, and waiting for a word.", "kind"),
    _gauge(
        "registry_confirmed_age_seconds",
        "Age of the oldest confirmation that a registry's list is complete.",
        "kind",
    ),
    _gauge(
        "registry_read_age_seconds",
        "Age of the oldest reading of a registry in full, fingerprints not believed.",
        "kind",
    ),
    _gauge(
        "fingerprint_lies", "Changes found behind fingerprints that said there were none.", "kind"
    ),
    _gauge("runs_open", "Runs that have not ended.", "state"),
    _gauge("run_oldest_seconds", "Age of the oldest run that has not ended.", "state"),
    _gauge("jobs", "Jobs of the queue, counted up to 100000.", "queue", "status"),
    _gauge("job_oldest_seconds", "How long the oldest job has waited since it was due.", "queue"),
    _gauge("workers", "Workers heard of within the last ten seconds."),
    _gauge("host_concurrency", "Requests at once that a host is asked with.", "host"),
    _gauge("host_concurrency_ceiling", "The most that it is asked with at once.", "host"),
    _gauge(
        "host_rate", "Requests a second that a host was found to bear; absent: no limit.", "host"
    ),
    _gauge("host_paused_seconds", "For how long a host has asked to be left alone.", "host"),
    # --- what has happened, in every process together ---
    _counter("events", "Changes of the list: added, moved, retired, restored."),
    _counter("runs", "Runs ended.", "kind", "outcome"),
    Metric(
        "run_duration_seconds",
        "histogram",
        ("kind",),
        "From the beginning of a run to its end.",
        ends=RUN_ENDS,
    ),
    _counter(
        "upstream_requests",
        "Requests to registries, by the status of the answer or the error in its place.",
        "host",
        "status",
    ),
    _counter("upstream_request_seconds", "Time that they took, added up.", "host"),
    _counter("refusals", "Calls refused, as the audit tells them.", "reason"),
    _counter("job_failures", "Jobs that failed for a reason of our own.", "task"),
    _counter("database_pool_requests", "Connections asked for.", "role"),
    _counter("database_pool_wait_seconds", "Time spent waiting for one.", "role"),
    _counter("database_pool_failures", "Requests for one that got none.", "role"),
    _counter("cpu_seconds", "Processor time of our processes, the database's not.", "role"),
    # --- this process ---
    _own("build", "info", "What is running.", "version", "python"),
    _own("database_up", "gauge", "1 if the database has answered this scrape."),
    _own("database_pool_connections", "gauge", "Connections of this process.", "state"),
    _own("database_pool_waiting", "gauge", "Those who wait for one now."),
    _own("http_requests", "counter", "Requests answered.", "method", "route", "status"),
    _own(
        "http_request_duration_seconds",
        "histogram",
        "From the head of a request to the head of its answer.",
        "method",
        "route",
    ),
)

BY_NAME = {metric.name: metric for metric in METRICS}
