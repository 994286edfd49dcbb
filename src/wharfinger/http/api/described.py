"""What OpenAPI is told of the routes of our own API. See ``wharfinger.http.described``."""

from __future__ import annotations

from typing import Any

from wharfinger.domain.model import VerdictState
from wharfinger.domain.schedule import ScheduleChange
from wharfinger.domain.webhooks import NewWebhook, WebhookChange
from wharfinger.http.answers import GatewayError, HssError
from wharfinger.http.api.call import MOST_ITEMS
from wharfinger.http.api.enterprise_projects import (
    EnterpriseProjectChange,
    NewEnterpriseGrant,
    NewEnterpriseProject,
)
from wharfinger.http.api.images import ATTACHED, MOST_IMAGES
from wharfinger.http.api.labels import LabelBody
from wharfinger.http.api.reports import REPORT_FORMATS
from wharfinger.http.api.webhooks import ReplayBody, RotationBody
from wharfinger.http.api.wire import AcceptBody, ImageItem, StreamEnd
from wharfinger.http.cyclonedx import CYCLONEDX
from wharfinger.http.described import Api, Operation, choice, flag, integer, moment, repeated, text
from wharfinger.http.exports import CSV, FORMATS, PARQUET
from wharfinger.http.parameters import MAX_INT64

_LIMIT = integer("limit", smallest=1, largest=MOST_ITEMS)
# A ``next`` of the same list.
_AFTER = text("after", longest=512)
_PAGE = (_LIMIT, _AFTER)
_FILTERS = (
    text("registry", longest=128),
    text("kind", longest=64),
    *(
        text(name, longest=255)
        for name in ("namespace", "name", "tag", "tag_contains", "text", "digest", "image_id")
    ),
    integer("size", smallest=0, largest=MAX_INT64),
    flag("multi_arch"),
    flag("latest"),
    *map(flag, ATTACHED),
    repeated("label", longest=320, most=8),
    *(moment(name) for name in ("updated_from", "updated_to", "confirmed_from", "confirmed_to")),
)

_DESCRIBED = {
    "list_changes": Operation(query=(integer("after", smallest=0, largest=MAX_INT64), _LIMIT)),
    "list_images": Operation(
        query=(
            moment("at"),
            integer("as_of", smallest=0, largest=MAX_INT64),
            *_FILTERS,
            integer("limit", smallest=1, largest=MOST_IMAGES),
            _AFTER,
            choice("format", ["json", *FORMATS]),
        ),
        lines=(ImageItem, StreamEnd),
        files=(CSV, PARQUET, CYCLONEDX),
        may_be_unchanged=True,
    ),
    "list_facets": Operation(query=_FILTERS),
    "set_label": Operation(body=LabelBody),
    "remove_label": Operation(
        query=(text("namespace", longest=255, shortest=0), text("repository", longest=255))
    ),
    "add_webhook": Operation(body=NewWebhook),
    "change_webhook": Operation(body=WebhookChange),
    "rotate_webhook_secret": Operation(body=RotationBody),
    "replay_webhook": Operation(body=ReplayBody),
    "list_deliveries": Operation(query=_PAGE),
    "list_audit": Operation(
        query=(
            choice("kind", ("change", "refusal")),
            text("action", longest=128),
            text("outcome", longest=64),
            text("user", longest=256),
            text("source", longest=64),
            text("request_id", longest=64),
            text("target_type", longest=64),
            text("target_name", longest=256),
            moment("since"),
            moment("until"),
            *_PAGE,
        )
    ),
    "list_runs": Operation(query=(text("registry_id", longest=64), *_PAGE)),
    "list_differences": Operation(query=_PAGE),
    "show_report": Operation(
        query=(choice("format", REPORT_FORMATS), text("registry_id", longest=64)),
        files=("text/markdown",),
    ),
    "list_repository_verdicts": Operation(
        query=(choice("verdict", [v.value for v in VerdictState]), *_PAGE)
    ),
    "list_held": Operation(query=_PAGE),
    "accept_held": Operation(body=AcceptBody),
    "set_schedule": Operation(body=ScheduleChange),
    "create_enterprise_project": Operation(body=NewEnterpriseProject),
    "change_enterprise_project": Operation(body=EnterpriseProjectChange),
    "grant_enterprise_project": Operation(body=NewEnterpriseGrant),
    "receive_notification": Operation(body=Any, on_its_own=True, credentials=("notifications",)),
}

API = Api(
    tag="wharfinger",
    prefix="/api/v1/",
    description="Wharfinger's own API, version 1.",
    errors={
        **dict.fromkeys((400, 401, 403, 404, 409, 410, 503), (GatewayError,)),
        500: (GatewayError, HssError),
    },
    query=(text("enterprise_project_id", longest=256),),
    described=_DESCRIBED,
)
