"""Each parameter of the HSS routes: its range, and what a wrong one is told."""

import json
from urllib.parse import urlencode

import pytest
from clients import call
from house import TASK_ID, run_progress

from rows import AT, AT_MS
from wharfinger.domain.errors import NotGrantedError
from wharfinger.domain.model import (
    Reason,
    RunOutcome,
    RunState,
    TaskProgress,
)

IMAGES = "image/registries/images"
SWR = "image/swr-repository"
POLICIES = "image/scanner-policies"
COMMAND = "image/registries/image-upload-command"
MAX_INT64 = 9223372036854775807
# What a route asks for in any case.
NEEDED = {
    "image/tasks": {"type": "image_sync"},
    SWR: {"image_type": "private_image"},
    POLICIES: {"type": "image_scan"},
    COMMAND: {
        "registry_addr": "harbor.example",
        "namespace": "team",
        "username": "robot",
        "password": "secret-of-robot",
    },
}


def ask(house, tenant, route, *, expect=200, **parameters):
    query = f"?{urlencode(parameters, doseq=True)}" if parameters else ""
    status, headers, body = call(house, f"/v5/{tenant.id}/{route}{query}", token=tenant.token)
    assert status == expect, body
    return headers, body


def tell(house, tenant, route, body, *, expect=200, query=""):
    status, headers, answer = call(
        house,
        f"/v5/{tenant.id}/{route}{query}",
        token=tenant.token,
        method="POST",
        body=body if isinstance(body, bytes) else json.dumps(body).encode(),
    )
    assert status == expect, answer
    return headers, answer


@pytest.mark.parametrize(
    ("route", "parameter", "value", "rule"),
    [
        (IMAGES, "enterprise_project_id", "", "must be 1 to 256 characters"),
        (IMAGES, "enterprise_project_id", "x" * 257, "must be 1 to 256 characters"),
        (IMAGES, "namespace", "", "must be 1 to 128 characters"),
        (IMAGES, "namespace", "x" * 129, "must be 1 to 128 characters"),
        (IMAGES, "namespace", "a\0b", "must be UTF-8 text without NUL characters"),
        (IMAGES, "image_name", "x" * 129, "must be 1 to 128 characters"),
        (IMAGES, "image_version", "x" * 65, "must be 1 to 64 characters"),
        (IMAGES, "registry_name", "x" * 129, "must be 1 to 128 characters"),
        (IMAGES, "offset", "-1", "must be an integer from 0 to 2000000"),
        (IMAGES, "offset", "2000001", "must be an integer from 0 to 2000000"),
        (IMAGES, "limit", "0", "must be an integer from 1 to 200"),
        (IMAGES, "limit", "201", "must be an integer from 1 to 200"),
        (IMAGES, "limit", "ten", "must be an integer from 1 to 200"),
        (IMAGES, "limit", "1.0", "must be an integer from 1 to 200"),
        (IMAGES, "limit", "١٢", "must be an integer from 1 to 200"),
        (IMAGES, "limit", "", "must be an integer from 1 to 200"),
        (IMAGES, "limit", ["10", "10"], "must be given once"),
        (IMAGES, "sort_key", "id", "must be latest_scan_time"),
        (IMAGES, "sort_dir", "up", "must be asc or desc"),
        (IMAGES, "latest_version", "1", "must be true or false"),
        (IMAGES, "has_vul", "True", "must be true or false"),
        (IMAGES, "has_malicious_file", "", "must be true or false"),
        (IMAGES, "has_unsafe_setting", "yes", "must be true or false"),
        (IMAGES, "risky", "no", "must be true or false"),
        (IMAGES, "is_multarch", "0", "must be true or false"),
        (IMAGES, "image_size", "2147483548", "must be an integer from 0 to 2147483547"),
        (IMAGES, "start_latest_scan_time", MAX_INT64 + 1, f"from 0 to {MAX_INT64}"),
        (IMAGES, "end_latest_sync_time", "-5", f"from 0 to {MAX_INT64}"),
        (IMAGES, "instance_id", "x" * 129, "must be 0 to 128 characters"),
        (IMAGES, "instance_name", "x" * 129, "must be 0 to 128 characters"),
        (SWR, "limit", "9", "must be an integer from 10 to 200"),
        (SWR, "start_latest_update_time", "4070880000001", "from 0 to 4070880000000"),
        ("image/registries", "limit", "9", "must be an integer from 10 to 200"),
        ("image/registries", "registry_id", "x" * 65, "must be 1 to 64 characters"),
        ("image/registries", "registry_addr", "x" * 257, "must be 1 to 256 characters"),
        ("image/registries", "status", "ok", "must be success or fail or accessing"),
        ("image/tasks", "task_id", "", "must be 1 to 256 characters"),
        ("image/tasks", "task_name", "x" * 257, "must be 1 to 256 characters"),
        ("image/tasks", "create_time", "4070880000001", "from 0 to 4070880000000"),
        ("image/tasks", "task_status", "running", "must be scanning or finished"),
        ("image/tasks", "global_image_type", "cicd", "must be local or registry"),
        ("image/tasks", "scan_scope", "all", "must be an integer from 0"),
        (f"image/image-sync/tasks/{TASK_ID}/registries", "limit", "9", "from 10 to 200"),
        (f"image/image-sync/tasks/{TASK_ID}/registries", "sync_status", "done", "finished or"),
        (f"image/image-sync/tasks/{TASK_ID}/registries", "registry_name", "", "1 to 128"),
        (f"image/image-sync/tasks/{'x' * 65}/registries", "task_id", "", "1 to 64 characters"),
        ("image/registries/statistics", "registry_type", "Quay", "must be SwrPrivate or"),
        ("container/images", "keyword", "", "must be 1 to 128 characters"),
        ("container/images", "limit", "9", "must be an integer from 10 to 200"),
        ("container/images", "offset", "2000001", "must be an integer from 0 to 2000000"),
        (POLICIES, "global_image_type", "cicd", "must be local or registry"),
        (POLICIES, "type", "x" * 65, "must be 1 to 64 characters"),
        (COMMAND, "registry_addr", "x" * 257, "must be 1 to 256 characters"),
        (COMMAND, "namespace", "", "must be 1 to 128 characters"),
        (COMMAND, "username", "x" * 129, "must be 1 to 128 characters"),
        (COMMAND, "password", "x" * 129, "must be 1 to 128 characters"),
    ],
)
def test_a_value_out_of_range_names_parameter_and_range(
    house, tenant, route, parameter, value, rule
):
    _, body = ask(house, tenant, route, expect=400, **(NEEDED.get(route, {}) | {parameter: value}))

    assert set(body) == {"error_code", "error_description", "error_msg"}
    assert body["error_code"] == "HSS.0001"
    assert body["error_msg"] == body["error_description"]
    assert body["error_msg"].startswith(f"{parameter}: ")
    assert rule in body["error_msg"]


@pytest.mark.parametrize(
    ("route", "parameter", "allowed"),
    [
        (IMAGES, "image_type", "private_image shared_image instance_image harbor jfrog other"),
        (IMAGES, "scan_status", "unscan success scanning failed waiting_for_scan"),
        (IMAGES, "severity_level", "Security Low Medium High"),
        (SWR, "image_type", "private_image shared_image local_image instance_image"),
        ("image/tasks", "type", "image_sync image_scan"),
        ("image/tasks", "task_type", "cycle manual autoSync manualSync"),
        ("image/registries", "registry_type", "SwrPrivate SwrShared SwrEnterprise Harbor Jfrog"),
    ],
)
def test_only_the_words_of_the_contract_are_taken(house, tenant, route, parameter, allowed):
    given = NEEDED.get(route, {})

    for word in allowed.split():
        ask(house, tenant, route, **(given | {parameter: word}))
    _, body = ask(house, tenant, route, expect=400, **(given | {parameter: "nonsense"}))

    assert body["error_code"] == "HSS.0001"
    assert all(word in body["error_msg"] for word in allowed.split())


@pytest.mark.parametrize(
    ("route", "parameter"), [(route, name) for route, given in NEEDED.items() for name in given]
)
def test_what_is_required_is_asked_for(house, tenant, route, parameter):
    given = {name: value for name, value in NEEDED[route].items() if name != parameter}

    _, body = ask(house, tenant, route, expect=400, **given)

    assert body["error_msg"].startswith(f"{parameter}: is required")


def test_bad_input_is_told_beside_a_filter_that_matches_nothing(house, tenant):
    wanted = {"has_vul": "true", "instance_name": "i", "end_latest_scan_time": "x"}

    _, body = ask(house, tenant, IMAGES, expect=400, **wanted)

    assert body["error_code"] == "HSS.0001"
    assert body["error_msg"].startswith("end_latest_scan_time: ")


@pytest.mark.parametrize("what", ["update", "scan", "sync"])
def test_a_span_does_not_end_before_it_starts(house, tenant, what):
    span = {f"start_latest_{what}_time": 2, f"end_latest_{what}_time": 1}

    _, body = ask(house, tenant, IMAGES, expect=400, **span)

    assert body["error_msg"].startswith(f"start_latest_{what}_time: must not be later than")


def test_parameters_nobody_knows_are_ignored(house, tenant):
    ask(house, tenant, IMAGES, region="cn-north-4", unknown=["a", "b"])


def test_ten_rows_are_a_page_unless_asked_otherwise(house, tenant):
    registry = tenant.registry()
    repository = tenant.repository(registry)
    for number in range(12):
        tenant.image(registry, repository, f"v{number}")

    _, first = ask(house, tenant, IMAGES)
    _, second = ask(house, tenant, IMAGES, offset=10)
    _, all_of_them = ask(house, tenant, IMAGES, limit=200)
    _, backwards = ask(house, tenant, IMAGES, sort_key="latest_scan_time", sort_dir="desc")

    assert [len(page["data_list"]) for page in (first, second, all_of_them)] == [10, 2, 12]
    assert {page["total_num"] for page in (first, second, all_of_them)} == {12}
    assert backwards["data_list"][0]["image_version"] == "v11"


@pytest.mark.parametrize(
    ("question", "matches"),
    [
        ({"scan_status": "unscan"}, 1),
        ({"scan_status": "success"}, 0),
        ({"has_vul": "true"}, 0),
        ({"has_vul": "false"}, 0),
        ({"has_malicious_file": "false"}, 0),
        ({"has_unsafe_setting": "false"}, 0),
        ({"risky": "false"}, 0),
        ({"severity_level": "Low"}, 0),
        ({"start_latest_scan_time": 0}, 0),
        ({"instance_id": "x"}, 0),
        ({"instance_id": ""}, 1),
        ({"image_type": "private_image"}, 1),
        ({"image_type": "harbor"}, 0),
        ({"latest_version": "false"}, 1),
        ({"latest_version": "true"}, 0),
        ({"image_size": 1000}, 1),
        ({"start_latest_sync_time": AT_MS, "end_latest_sync_time": AT_MS}, 1),
        ({"end_latest_sync_time": AT_MS - 1}, 0),
        ({"end_latest_update_time": MAX_INT64}, 1),
        ({"image_name": "PP"}, 1),
    ],
)
def test_questions_about_scans_find_only_what_was_scanned(house, tenant, question, matches):
    registry = tenant.registry()
    tenant.image(registry, tenant.repository(registry))

    headers, body = ask(house, tenant, IMAGES, **question)

    assert (body["total_num"], len(body["data_list"])) == (matches, matches)
    # Where the question leaves no registry, nothing was ever listed.
    no_registry = question in ({"image_type": "harbor"}, {"instance_id": "x"})
    assert headers["X-Wharfinger-Verdict"] == ("never" if no_registry else "complete")


@pytest.mark.parametrize("route", [IMAGES, SWR, "image/registries", "image/asset/statistics"])
def test_a_list_says_what_it_is_worth(house, tenant, route):
    tenant.registry(verdict="partial")
    tenant.sql.execute("UPDATE tenant_feed SET seq = 41 WHERE project_id = %s", (tenant.id,))

    headers, _ = ask(house, tenant, route, image_type="private_image")

    assert headers["X-Wharfinger-Verdict"] == "partial"
    assert headers["X-Wharfinger-As-Of"] == "41"


def test_a_statistic_ends_where_the_contract_does(house, tenant):
    registry = tenant.registry()
    tenant.repository(registry, live_images=70000)

    _, body = ask(house, tenant, "image/asset/statistics")

    assert body == {"registry_num": 65535, "local_num": 0, "cicd_num": 0}


def test_another_projects_path_is_refused_whether_it_exists_or_not(house, tenant):
    other = house.tenant("other")
    registry = other.registry()
    other.image(registry, other.repository(registry))

    for project in (other.id, "nobody"):
        status, _, body = call(house, f"/v5/{project}/{IMAGES}", token=tenant.token)
        assert (status, body["error_code"]) == (400, "HSS.0013")
    _, mine = ask(house, tenant, IMAGES)
    assert mine["total_num"] == 0


def test_a_project_id_has_a_longest_length(house, tenant):
    status, _, body = call(house, f"/v5/{'x' * 257}/{IMAGES}", token=tenant.token)

    assert (status, body["error_code"]) == (400, "HSS.0001")
    assert body["error_msg"] == "project_id: must be 1 to 256 characters"


def test_a_region_has_a_longest_length(house, tenant):
    path = f"/v5/{tenant.id}/image/registries"

    fits, _, _ = call(house, path, token=tenant.token, headers={"region": "x" * 128})
    status, _, body = call(house, path, token=tenant.token, headers={"region": "x" * 129})

    assert fits == 200
    assert (status, body["error_msg"]) == (400, "region: must be 0 to 128 characters")


@pytest.mark.parametrize(
    ("body", "code", "message"),
    [
        (b"", "HSS.0001", "image_type: is required: private_image or shared_image"),
        (b"{}", "HSS.0001", "image_type: is required: private_image or shared_image"),
        (b'{"image_type": null}', "HSS.0001", "image_type: is required"),
        (b'{"image_type": "local_image"}', "HSS.0001", "image_type: must be private_image or"),
        (b'{"image_type": ""}', "HSS.0001", "image_type: must be private_image or"),
        (b'{"image_type": 1}', "HSS.0001", "image_type: Expected `str"),
        (b"[]", "HSS.0001", "body: Expected `object`"),
        (b"{", "HSS.0002", "The body is not JSON"),
        (b"image_type=private_image", "HSS.0002", "The body is not JSON"),
        (b'{"image_type": "\xff"}', "HSS.0002", "The body is not JSON"),
    ],
)
def test_a_wrong_body_is_told_what_is_wrong(house, tenant, body, code, message):
    _, answer = tell(house, tenant, "image/synchronize", body, expect=400)

    assert answer["error_code"] == code
    assert answer["error_msg"].startswith(message)
    assert house.synchroniser.asked == []


def test_the_founding_call_says_what_replaces_it(house, tenant):
    headers, body = tell(house, tenant, "image/synchronize", {"image_type": "private_image"})

    assert body == {"error_code": 0, "error_description": "success", "task_id": TASK_ID}
    assert headers["X-Wharfinger-Task-Id"] == TASK_ID
    assert headers["Deprecation"] == "@1775174400"
    assert headers["Link"] == (f'</v5/{tenant.id}/image/image-sync/tasks>; rel="successor-version"')
    assert house.synchroniser.asked == [(tenant.id, "SwrPrivate", "0")]


def test_extra_keys_of_a_body_are_ignored(house, tenant):
    tell(house, tenant, "image/synchronize", {"image_type": "private_image", "extra": [1]})


@pytest.mark.parametrize(
    ("body", "asked"),
    [
        ({"sync_all_registries": True}, (True, [])),
        ({"sync_all_registries": True, "registry_info": [{"registry_id": "a"}]}, (True, [])),
        (
            {"registry_info": [{"registry_id": "a", "registry_type": "Other"}]},
            (False, [("a", "Other")]),
        ),
        (
            {"sync_all_registries": False, "registry_info": [{"registry_type": "SwrShared"}]},
            (False, [("", "SwrShared")]),
        ),
    ],
)
def test_the_successor_names_registries_or_all(house, tenant, body, asked):
    headers, answer = tell(house, tenant, "image/image-sync/tasks", body)

    assert answer == {"task_id": TASK_ID}
    assert headers["X-Wharfinger-Task-Id"] == TASK_ID
    assert house.synchroniser.asked == [(tenant.id, "0", *asked)]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "registry_info: must name at least one"),
        ({}, "registry_info: must name at least one"),
        ({"sync_all_registries": False}, "registry_info: must name at least one"),
        ({"registry_info": []}, "registry_info: must name at least one"),
        ({"registry_info": [{}]}, "registry_info: must give registry_id or registry_type"),
        ({"registry_info": [{"registry_type": "Quay"}]}, "registry_type: must be SwrPrivate"),
        ({"registry_info": [{"registry_id": "x" * 65}]}, "registry_id: must be 0 to 64"),
        ({"sync_all_registries": "true"}, "sync_all_registries: Expected `bool"),
    ],
)
def test_the_successor_refuses_to_guess(house, tenant, body, message):
    _, answer = tell(house, tenant, "image/image-sync/tasks", body, expect=400)

    assert answer["error_code"] == "HSS.0001"
    assert answer["error_msg"].startswith(message)
    assert house.synchroniser.asked == []


@pytest.mark.parametrize("route", ["image/synchronize", "image/image-sync/tasks"])
def test_an_enterprise_project_that_is_not_granted_is_refused(house, tenant, route):
    body = {"image_type": "private_image", "sync_all_registries": True}

    _, answer = tell(house, tenant, route, body, expect=400, query="?enterprise_project_id=other")

    assert answer["error_code"] == "HSS.0013"
    assert house.synchroniser.asked == []


def test_what_the_synchroniser_refuses_is_passed_on(house, tenant):
    house.synchroniser.failure = NotGrantedError("not yours")

    _, answer = tell(
        house, tenant, "image/synchronize", {"image_type": "private_image"}, expect=400
    )

    assert (answer["error_code"], answer["error_msg"]) == ("HSS.0013", "not yours")


def task(*runs):
    return TaskProgress(
        id=TASK_ID, name="sync", sync_type="manualSync", created_at=AT, finished_at=None, runs=runs
    )


@pytest.mark.parametrize(
    ("runs", "status"),
    [
        ((run_progress(),), 100),
        ((run_progress(outcome=RunOutcome.HELD),), 100),
        ((run_progress(outcome=RunOutcome.PARTIAL),), 100),
        ((run_progress(outcome=RunOutcome.FAILED),), -3),
        ((run_progress(outcome=RunOutcome.FAILED), run_progress()), 100),
        ((run_progress(RunState.QUEUED, None),), 0),
        ((run_progress(RunState.RUNNING, None, done=3, total=4),), 75),
        ((run_progress(RunState.RUNNING, None, done=4, total=4),), 99),
        ((run_progress(), run_progress(RunState.RUNNING, None, done=1, total=2)), 75),
        ((), 100),
    ],
)
def test_the_status_of_a_task_is_its_progress(house, tenant, runs, status):
    house.synchroniser.progress = [task(*runs)]

    _, body = ask(house, tenant, "image/tasks", type="image_sync")

    assert body["data_list"][0]["task_status"] == status


def test_a_task_lists_what_it_could_not_read(house, tenant):
    reason = Reason(code="forbidden", message="403", repository="team/deep/app")
    failed = run_progress(
        outcome=RunOutcome.PARTIAL, repositories_failed=1, images=5, reasons=(reason,)
    )
    house.synchroniser.progress = [task(failed)]

    _, body = ask(house, tenant, "image/tasks", type="image_sync")
    _, runs = ask(house, tenant, f"image/image-sync/tasks/{TASK_ID}/registries")

    row = body["data_list"][0]
    assert (row["total_num"], row["success_num"], row["failed_num"]) == (6, 5, 1)
    assert row["failed_reason"] == "team/deep/app: 403"
    assert row["failed_images"][0]["namespace"] == "team"
    assert row["failed_images"][0]["image_name"] == "deep/app"
    run = runs["data_list"][0]
    assert (run["sync_status"], run["failed_reason"]) == ("failed", "team/deep/app: 403")
    assert run["failed_code"] == "forbidden"


def test_a_repository_outside_any_namespace_is_named_as_one(house, tenant):
    reason = Reason(code="forbidden", message="403", repository="app")
    house.synchroniser.progress = [
        task(run_progress(outcome=RunOutcome.PARTIAL, reasons=(reason,)))
    ]

    _, body = ask(house, tenant, "image/tasks", type="image_sync")

    failed = body["data_list"][0]["failed_images"][0]
    assert (failed["namespace"], failed["image_name"]) == ("", "app")


@pytest.mark.parametrize(
    ("state", "outcome", "status"),
    [
        (RunState.QUEUED, None, "running"),
        (RunState.RUNNING, None, "running"),
        (RunState.FINISHED, RunOutcome.COMPLETE, "finished"),
        (RunState.FINISHED, RunOutcome.HELD, "finished"),
        (RunState.FINISHED, RunOutcome.PARTIAL, "failed"),
        (RunState.FINISHED, RunOutcome.FAILED, "failed"),
    ],
)
def test_the_registry_of_a_task_has_one_of_three_states(house, tenant, state, outcome, status):
    house.synchroniser.progress = [task(run_progress(state, outcome))]

    _, body = ask(house, tenant, f"image/image-sync/tasks/{TASK_ID}/registries")

    assert [run["sync_status"] for run in body["data_list"]] == [status]


def test_a_task_that_is_not_there_is_not_found(house, tenant):
    _, body = ask(house, tenant, "image/image-sync/tasks/unknown/registries", expect=400)

    assert body["error_code"] == "HSS.0011"


def test_the_questions_about_tasks_reach_the_synchroniser(house, tenant):
    ask(
        house,
        tenant,
        "image/tasks",
        type="image_sync",
        task_type="manualSync",
        task_name="nightly",
        task_id=TASK_ID,
        create_time=AT_MS,
        end_time=AT_MS + 1,
        task_status="finished",
        enterprise_project_id="all_granted_eps",
        offset=5,
        limit=50,
    )
    ask(
        house,
        tenant,
        f"image/image-sync/tasks/{TASK_ID}/registries",
        registry_type="SwrPrivate,Other",
        registry_name="swr",
        sync_status="failed",
    )

    (_, wanted, offset, limit), (_, _, runs) = house.synchroniser.asked
    assert (wanted.sync_type, wanted.name_contains, wanted.status) == (
        "manualSync",
        "nightly",
        "finished",
    )
    assert (wanted.task_id, offset, limit) == (TASK_ID, 5, 50)
    assert wanted.created_from == AT.replace(microsecond=456000)
    assert (wanted.created_to - wanted.created_from).microseconds == 1000
    assert runs == {
        "registry_name": "swr",
        # What HSS has no word for is another one, too.
        "registry_kinds": ("SwrPrivate", "Gitlab", "Other"),
        "sync_status": "failed",
        "offset": 0,
        "limit": 10,
    }


@pytest.mark.parametrize(
    "question",
    [
        {"type": "image_scan"},
        {"type": "image_sync", "task_type": "cycle"},
        {"type": "image_sync", "global_image_type": "local"},
    ],
)
def test_there_are_no_scans(house, tenant, question):
    house.synchroniser.progress = [task(run_progress())]

    _, body = ask(house, tenant, "image/tasks", **question)

    assert body == {"total_num": 0, "data_list": []}
