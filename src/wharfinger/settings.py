"""The only place that reads the environment. A flag wins over the environment over the default."""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from wharfinger.domain.errors import SetupError
from wharfinger.domain.policy import SYSTEM_POLICIES

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

# libpq's own variables hold addresses and passwords, too.
_OURS = ("WHARFINGER_", "PG")
_OTLP_DEFAULT = "http://localhost:4318/v1/traces"
_LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))


@dataclass(frozen=True, kw_only=True)
class Setting:
    """One setting with its value and where that came from."""

    name: str
    variable: str
    value: Any
    origin: str  # "flag", "environment" or "default"
    help: str
    secret: bool = False

    @property
    def shown(self) -> str:
        """The value fit for a screen: no password of a database address."""
        if self.value is None:
            return ""
        if self.secret:
            return "***"
        if isinstance(self.value, tuple):
            return ",".join(str(v) for v in self.value)
        if isinstance(self.value, bool):
            return str(self.value).lower()
        return re.sub(r"(?<=:)[^:@/]+(?=@)|(?<=password=)\S+", "***", str(self.value))


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that can be set, read once at the start of a process."""

    data_dir: Path
    database_url: str | None
    database_app_url: str | None
    migrations: str
    pg_bin: str | None
    secret_key_file: Path
    secret_commands: Path | None
    allow_networks: tuple[Network, ...]
    listen: str
    metrics_listen: str | None
    metrics_token_file: Path
    trusted_proxies: tuple[Network, ...]
    ecdsa_signatures: bool
    max_connections: int
    receive_timeout_s: int
    keep_alive_s: int
    rate_per_credential: int
    rate_per_address: int
    remembered_mb: int
    iam_url: str | None
    iam_user: str | None
    iam_password: str | None = field(repr=False)
    iam_password_file: Path | None
    iam_domain: str
    iam_project: str | None
    iam_ca_file: Path | None
    iam_roles: tuple[str, ...]
    iam_cache_s: int
    iam_timeout_s: int
    iam_create_projects: bool
    drain_s: int
    workers: int
    host_concurrency: int
    fast_http: bool
    retry_deadline_s: int
    history_days: int
    audit_days: int
    webhook_patience_days: int
    delivery_days: int
    schedules: bool
    schedule_jitter_s: int
    log_level: str
    log_format: str
    otel_endpoint: str | None
    otel_traces_endpoint: str | None
    otel_traces_exporter: str
    otel_protocol: str
    otel_service_name: str
    otel_sdk_disabled: bool
    described: tuple[Setting, ...]

    @property
    def traces_endpoint(self) -> str | None:
        """Where traces are sent, if they are to be made at all."""
        if self.otel_sdk_disabled or self.otel_traces_exporter == "none":
            return None
        if self.otel_traces_endpoint is not None:
            return self.otel_traces_endpoint
        if self.otel_endpoint is not None:
            return f"{self.otel_endpoint}/v1/traces"
        # What OpenTelemetry has for a default, once somebody asks for traces by name.
        return _OTLP_DEFAULT if self.otel_traces_exporter == "otlp" else None

    @property
    def traces_service(self) -> str:
        """What traces call this service."""
        return self.otel_service_name


@dataclass(frozen=True)
class _Rule:
    name: str
    variable: str
    read: Callable[[str], Any]
    default: Callable[[dict[str, Any]], Any]
    help: str
    secret: bool = False


def _whole_number(low: int, high: int) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not re.fullmatch(r"\d+", text) or not low <= int(text) <= high:
            raise ValueError(f"must be a whole number from {low} to {high}")
        return int(text)

    return read


def _choice(*allowed: str) -> Callable[[str], str]:
    def read(text: str) -> str:
        if text not in allowed:
            raise ValueError(f"must be one of {', '.join(allowed)}")
        return text

    return read


def _yes_or_no(text: str) -> bool:
    if text not in ("true", "false"):
        raise ValueError("must be true or false")
    return text == "true"


def _audit_days(text: str) -> int:
    if not text.isdecimal() or not (int(text) == 0 or 30 <= int(text) <= 36500):
        raise ValueError("must be 0, or a whole number from 30 to 36500")
    return int(text)


def _web_address(text: str) -> str:
    rule = "must be https://HOST or http://HOST, with neither user nor query"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError as exc:
        raise ValueError(rule) from exc
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(rule)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(rule)
    return text.rstrip("/")


def _roles(text: str) -> tuple[str, ...]:
    pairs = tuple(part.strip() for part in text.split(",") if part.strip())
    for pair in pairs:
        role, _, policy = pair.partition("=")
        if not role or policy not in SYSTEM_POLICIES:
            raise ValueError(
                "must be ROLE=POLICY, separated by commas; a policy is one of"
                f" {', '.join(SYSTEM_POLICIES)}"
            )
    return pairs


def _networks(text: str) -> tuple[Network, ...]:
    try:
        return tuple(ipaddress.ip_network(part.strip()) for part in text.split(",") if part.strip())
    except ValueError as exc:
        raise ValueError("must be networks like 10.0.0.0/8, separated by commas") from exc


def _listen(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or not port.isdigit() or int(port) > 65535:
        raise ValueError("must be HOST:PORT")
    return text


def _default_data_dir(environment: Mapping[str, str]) -> Path:
    if os.geteuid() == 0:
        return Path("/var/lib/wharfinger")
    home = environment.get("XDG_DATA_HOME") or str(Path.home() / ".local" / "share")
    return Path(home) / "wharfinger"


def _default_migrations(known: dict[str, Any]) -> str:
    """All on one machine; beside processes elsewhere, what these can live with."""
    if known["database_url"]:
        return "pre"
    return "none" if known["database_app_url"] else "all"


def _identity_rules() -> tuple[_Rule, ...]:
    return (
        _Rule(
            "iam_url",
            "WHARFINGER_IAM_URL",
            _web_address,
            lambda _: None,
            "an IAM or Keystone v3 that vouches for tokens besides our own",
        ),
        _Rule(
            "iam_user",
            "WHARFINGER_IAM_USER",
            str,
            lambda _: None,
            "the user there who may validate tokens",
        ),
        _Rule(
            "iam_password",
            "WHARFINGER_IAM_PASSWORD",
            str,
            lambda _: None,
            "that user's password",
            secret=True,
        ),
        _Rule(
            "iam_password_file",
            "WHARFINGER_IAM_PASSWORD_FILE",
            lambda text: Path(text).expanduser().absolute(),
            lambda _: None,
            "a file with that password instead, read at each login",
        ),
        _Rule(
            "iam_domain",
            "WHARFINGER_IAM_DOMAIN",
            str,
            lambda _: "Default",
            "that user's domain (account), by name",
        ),
        _Rule(
            "iam_project",
            "WHARFINGER_IAM_PROJECT",
            str,
            lambda _: None,
            "the project that user works in, by name; by default the domain",
        ),
        _Rule(
            "iam_ca_file",
            "WHARFINGER_IAM_CA_FILE",
            lambda text: Path(text).expanduser().absolute(),
            lambda _: None,
            "certificates (PEM) to trust there besides the system's",
        ),
        _Rule(
            "iam_roles",
            "WHARFINGER_IAM_ROLES",
            _roles,
            lambda _: (
                "te_admin=administrator",
                "admin=administrator",
                "member=full-access",
                "reader=read-only",
            ),
            "which system policy each role of a token there stands for",
        ),
        _Rule(
            "iam_cache_s",
            "WHARFINGER_IAM_CACHE_S",
            _whole_number(0, 3600),
            lambda _: 60,
            "seconds that a token's validation is believed, and a revocation unnoticed",
        ),
        _Rule(
            "iam_timeout_s",
            "WHARFINGER_IAM_TIMEOUT_S",
            _whole_number(1, 60),
            lambda _: 5,
            "seconds that a validation may take",
        ),
        _Rule(
            "iam_create_projects",
            "WHARFINGER_IAM_CREATE_PROJECTS",
            _yes_or_no,
            lambda _: False,
            "whether the project of a good token is made when it is first seen",
        ),
    )


def _true_or_not(text: str) -> bool:
    # As OpenTelemetry reads it: whatever is not "true" is false.
    return text.strip().lower() == "true"


def _telemetry_rules() -> tuple[_Rule, ...]:
    """OpenTelemetry's own variables, as far as they say whether and where to traces are sent.

    What else there is of them (headers, sampling, batches, attributes) the library reads itself.
    """
    return (
        _Rule(
            "otel_endpoint",
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            _web_address,
            lambda _: None,
            "a collector of traces; with it they are on",
        ),
        _Rule(
            "otel_traces_endpoint",
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            _web_address,
            lambda _: None,
            "the collector's whole address for traces, instead",
        ),
        _Rule(
            "otel_traces_exporter",
            "OTEL_TRACES_EXPORTER",
            _choice("otlp", "none"),
            lambda _: "",
            "otlp: traces are on; none: they are off",
        ),
        _Rule(
            "otel_protocol",
            "OTEL_EXPORTER_OTLP_PROTOCOL",
            _choice("http/protobuf"),
            lambda _: "http/protobuf",
            "how they are sent",
        ),
        _Rule(
            "otel_service_name",
            "OTEL_SERVICE_NAME",
            str,
            lambda _: "wharfinger",
            "what traces call this service",
        ),
        _Rule(
            "otel_sdk_disabled",
            "OTEL_SDK_DISABLED",
            _true_or_not,
            lambda _: False,
            "true: no traces, whatever else says",
        ),
    )


def _limit_rules() -> tuple[_Rule, ...]:
    return (
        _Rule(
            "max_connections",
            "WHARFINGER_MAX_CONNECTIONS",
            _whole_number(1, 100_000),
            lambda _: 500,
            "connections to serve at once; beyond them the answer is 503",
        ),
        _Rule(
            "receive_timeout_s",
            "WHARFINGER_RECEIVE_TIMEOUT_S",
            _whole_number(1, 3600),
            lambda _: 20,
            "seconds that a request's head may take, and its body before it may be slow",
        ),
        _Rule(
            "keep_alive_s",
            "WHARFINGER_KEEP_ALIVE_S",
            _whole_number(1, 3600),
            lambda _: 75,
            "seconds that a connection may wait for its next request",
        ),
        _Rule(
            "rate_per_credential",
            "WHARFINGER_RATE_PER_CREDENTIAL",
            _whole_number(0, 10_000_000),
            lambda _: 12_000,
            "requests a minute with one credential, 0 for no limit",
        ),
        _Rule(
            "rate_per_address",
            "WHARFINGER_RATE_PER_ADDRESS",
            _whole_number(0, 10_000_000),
            lambda _: 24_000,
            "requests a minute from one address (IPv6: one /64), 0 for no limit",
        ),
        _Rule(
            "remembered_mb",
            "WHARFINGER_REMEMBERED_MB",
            _whole_number(0, 16_384),
            lambda _: 32,
            "MB in which one server keeps pages that were asked for before, 0 for none",
        ),
    )


def _rules(environment: Mapping[str, str]) -> tuple[_Rule, ...]:
    return (
        _Rule(
            "data_dir",
            "WHARFINGER_DATA_DIR",
            lambda text: Path(text).expanduser().absolute(),
            lambda _: _default_data_dir(environment),
            "where the embedded database and the keys live",
        ),
        _Rule(
            "database_url",
            "WHARFINGER_DATABASE_URL",
            str,
            lambda _: None,
            "a PostgreSQL 17+ of your own, as the role that owns the schema",
        ),
        _Rule(
            "database_app_url",
            "WHARFINGER_DATABASE_APP_URL",
            str,
            lambda _: None,
            "the same database as the role that works; by default the owner becomes wharfinger_app",
        ),
        _Rule(
            "migrations",
            "WHARFINGER_MIGRATIONS",
            _choice("all", "pre", "none"),
            _default_migrations,
            "what a process applies when it starts: all, what the release before can live with, or"
            " none",
        ),
        _Rule(
            "pg_bin",
            "WHARFINGER_PG_BIN",
            str,
            lambda _: None,
            "a folder of PostgreSQL programs for the embedded database",
        ),
        _Rule(
            "secret_key_file",
            "WHARFINGER_SECRET_KEY_FILE",
            lambda text: Path(text).expanduser().absolute(),
            lambda known: known["data_dir"] / "secret.key",
            "the keys that seal secrets at rest",
        ),
        _Rule(
            "secret_commands",
            "WHARFINGER_SECRET_COMMANDS",
            lambda text: Path(text).expanduser().absolute(),
            lambda _: None,
            "a folder of programs that --secret-from exec:PROGRAM may run; without it none is run",
        ),
        _Rule(
            "allow_networks",
            "WHARFINGER_ALLOW_NETWORKS",
            _networks,
            lambda _: (),
            "networks that any registry may be in, link-local and metadata addresses included",
        ),
        _Rule(
            "listen",
            "WHARFINGER_LISTEN",
            _listen,
            lambda _: "127.0.0.1:8080",
            "where serve listens",
        ),
        _Rule(
            "metrics_listen",
            "WHARFINGER_METRICS_LISTEN",
            _listen,
            lambda _: None,
            "where metrics are served besides, to whoever reaches it; by default nowhere",
        ),
        _Rule(
            "metrics_token_file",
            "WHARFINGER_METRICS_TOKEN_FILE",
            lambda text: Path(text).expanduser().absolute(),
            lambda known: known["data_dir"] / "metrics.token",
            "the token that a scrape of /metrics brings; made where there is none",
        ),
        _Rule(
            "trusted_proxies",
            "WHARFINGER_TRUSTED_PROXIES",
            _networks,
            lambda _: _LOOPBACK,
            "networks of proxies that are believed who a request came from",
        ),
        _Rule(
            "ecdsa_signatures",
            "WHARFINGER_ECDSA_SIGNATURES",
            _yes_or_no,
            lambda _: False,
            "whether SDK-ECDSA-P256-SHA256 signatures are checked rather than refused",
        ),
        *_limit_rules(),
        *_identity_rules(),
        _Rule(
            "drain_s",
            "WHARFINGER_DRAIN_S",
            _whole_number(0, 600),
            lambda _: 0,
            "seconds that serve still answers for after SIGTERM, while /readyz says no",
        ),
        _Rule(
            "workers",
            "WHARFINGER_WORKERS",
            _whole_number(0, 64),
            lambda _: 1,
            "worker processes that serve starts",
        ),
        _Rule(
            "host_concurrency",
            "WHARFINGER_HOST_CONCURRENCY",
            _whole_number(1, 256),
            lambda _: 16,
            "requests at once to one registry host, to begin with and at most",
        ),
        _Rule(
            "fast_http",
            "WHARFINGER_FAST_HTTP",
            _yes_or_no,
            lambda _: False,
            "whether registries are read by the client of the extra fast",
        ),
        _Rule(
            "retry_deadline_s",
            "WHARFINGER_RETRY_DEADLINE_S",
            _whole_number(0, 3600),
            lambda _: 60,
            "seconds that a failing request to a registry is tried again for",
        ),
        _Rule(
            "history_days",
            "WHARFINGER_HISTORY_DAYS",
            _whole_number(0, 36500),
            lambda _: 400,
            "days that history is kept for, 0 for ever; the current list is never touched",
        ),
        _Rule(
            "audit_days",
            "WHARFINGER_AUDIT_DAYS",
            _audit_days,
            lambda _: 400,
            "days that the audit is kept for, 30 at least, 0 for ever",
        ),
        _Rule(
            "webhook_patience_days",
            "WHARFINGER_WEBHOOK_PATIENCE_DAYS",
            _whole_number(1, 365),
            lambda _: 3,
            "days of failures in a row after which a webhook is given up",
        ),
        _Rule(
            "delivery_days",
            "WHARFINGER_DELIVERY_DAYS",
            _whole_number(0, 36500),
            lambda _: 30,
            "days that the log of webhook deliveries is kept for, 0 for ever",
        ),
        _Rule(
            "schedules",
            "WHARFINGER_SCHEDULES",
            _yes_or_no,
            lambda _: True,
            "whether workers begin the syncs that are due by schedule",
        ),
        _Rule(
            "schedule_jitter_s",
            "WHARFINGER_SCHEDULE_JITTER_S",
            _whole_number(0, 86400),
            lambda _: 600,
            "seconds that registries with the same time are spread over",
        ),
        _Rule(
            "log_level",
            "WHARFINGER_LOG_LEVEL",
            _choice("debug", "info", "warning", "error"),
            lambda _: "info",
            "how much is logged",
        ),
        _Rule(
            "log_format",
            "WHARFINGER_LOG_FORMAT",
            _choice("text", "json"),
            lambda _: "text",
            "how it is logged, on standard error",
        ),
        *_telemetry_rules(),
    )


def read_settings(
    flags: Mapping[str, Any] | None = None, environment: Mapping[str, str] | None = None
) -> Settings:
    """Read every setting. ``flags`` holds text as given on the command line, or ``None``.

    Raises:
        SetupError: a value is malformed; the message names the setting and what is accepted.
    """
    environment = os.environ if environment is None else environment
    known: dict[str, Any] = {}
    described = []
    for rule in _rules(environment):
        given = (flags or {}).get(rule.name)
        text, origin = given, "flag"
        if text is None:
            text, origin = environment.get(rule.variable) or None, "environment"
        if text is None:
            value, origin = rule.default(known), "default"
        else:
            value = _read(rule, str(text), origin)
        known[rule.name] = value
        described.append(
            Setting(
                name=rule.name,
                variable=rule.variable,
                value=value,
                origin=origin,
                help=rule.help,
                secret=rule.secret,
            )
        )
    return Settings(**known, described=tuple(described))


def _read(rule: _Rule, text: str, origin: str) -> Any:
    name = rule.variable if origin == "environment" else "--" + rule.name.replace("_", "-")
    try:
        return rule.read(text)
    except ValueError as exc:
        raise SetupError(f"{name}: {exc}") from exc


def worker_environment(settings: Settings) -> dict[str, str]:
    """The environment for a worker, which asks no identity service and needs no password of it."""
    return {
        name: value
        for name, value in child_environment(settings).items()
        if not name.startswith("WHARFINGER_IAM_")
    }


def bystander_environment() -> dict[str, str]:
    """The environment for a process of ours that reads no settings and outlives its maker."""
    return {name: value for name, value in os.environ.items() if not name.startswith(_OURS)}


def child_environment(settings: Settings) -> dict[str, str]:
    """The environment for a process of ours that is to read the same settings."""
    environment = dict(os.environ)
    for setting in settings.described:
        if setting.origin == "flag" and setting.value is not None:
            environment[setting.variable] = (
                ",".join(map(str, setting.value))
                if isinstance(setting.value, tuple)
                else str(setting.value)
            )
    return environment


def environment_variable(name: str) -> str | None:
    """One variable as it is now, for a secret that is kept in it."""
    return os.environ.get(name)


def command_environment() -> dict[str, str]:
    """What a program of the operator's gets to see: none of our own settings and secrets."""
    return {name: os.environ[name] for name in ("HOME", "LANG", "PATH", "TZ") if name in os.environ}
