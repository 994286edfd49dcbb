"""Schemathesis at the served document: calls that keep to it, and calls that do not."""

from __future__ import annotations

import contextlib
import re

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from prey import KEPT, REQUESTS, THROWN
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi import checks as openapi

pytestmark = [pytest.mark.timeout(3600), pytest.mark.slow]

CHECKS = [
    not_a_server_error,
    openapi.status_code_conformance,
    openapi.content_type_conformance,
    openapi.response_headers_conformance,
    openapi.response_schema_conformance,
    openapi.negative_data_rejection,
]
# Of all requests, those that schemathesis sends; the rest goes over raw sockets.
SHARE = 0.6
MODES = {mode.value: mode for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)}


@pytest.fixture(scope="session")
def operations(prey):
    schema = schemathesis.openapi.from_dict(prey.document())
    return [result.ok() for result in schema.get_all_operations()]


@pytest.mark.parametrize("mode", MODES)
def test_reading_keeps_to_the_document_and_changes_nothing(prey, operations, mode, record_property):
    reading = [one for one in operations if one.method == "get"]

    with prey.watched(record_property, what=f", {mode}"):
        asked = fuzz(prey, reading, MODES[mode], KEPT, prey.token, share_of(operations))

    assert asked > len(reading) / 2


@pytest.mark.parametrize("mode", MODES)
def test_writing_keeps_to_the_document_and_to_its_project(prey, operations, mode, record_property):
    writing = [one for one in operations if one.method != "get"]

    with prey.watched(record_property, KEPT, what=f", {mode}"):
        asked = fuzz(prey, writing, MODES[mode], THROWN, prey.other_token, share_of(operations))

    assert asked > len(writing) / 2


def share_of(operations):
    return max(1, round(REQUESTS * SHARE / len(operations) / len(MODES)))


def fuzz(prey, operations, mode, project, token, each):
    """Call each operation so often; returns how many answers there were."""
    before = prey.statuses.total()
    with requests.Session() as session:
        session.hooks["response"].append(lambda answer, **_: prey.count(answer.status_code))
        for operation in operations:
            # Of odd calls only the project is right, so that they get beyond it.
            ids = prey.ids[project]
            if mode is GenerationMode.NEGATIVE:
                ids = {"project_id": project}
            known = {
                name: ids[name] for name in re.findall(r"{(\w+)}", operation.path) if name in ids
            }
            call_often(
                prey, session, operation.as_strategy(mode, path_parameters=known), each, token
            )
    return prey.statuses.total() - before


def call_often(prey, session, strategy, each, token):
    @settings(
        max_examples=each,
        database=None,
        deadline=None,
        derandomize=False,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
        print_blob=True,
    )
    @given(case=strategy)
    def call(case):
        headers = {"X-Auth-Token": token}
        answer = case.call(base_url=prey.url, session=session, headers=headers)
        case.validate_response(answer, checks=CHECKS, headers=headers)

    # An operation without parameters can be called in one way only.
    with contextlib.suppress(Unsatisfiable):
        call()
