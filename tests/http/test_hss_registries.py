"""What the official SDK can ask and tell about registries, over the real store."""

from __future__ import annotations

import json

import pytest
from clients import call, sdk_client

from rows import AT_MS
from wharfinger.domain.model import Caller, RegistryCredential
from wharfinger.service.enterprise_projects import EnterpriseProjects
from wharfinger.store.registries import NewRegistry, open_registry

PASSWORD = "secret-of-robot"

FAILING = {
    "verdict": "never",
    "confirmed_at": None,
    "verdict_reasons": '[{"code": "unreachable", "message": "no route", "repository": null}]',
}


def test_registries_are_counted_by_how_they_do(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryStatisticsRequest

    tenant.registry("swr")
    tenant.registry("broken", "Other", **FAILING)
    tenant.registry("broken too", "Other", **FAILING)
    tenant.registry("new", "Other", verdict="never", confirmed_at=None)
    client = sdk_client(house, tenant)

    every = client.list_registry_statistics(ListRegistryStatisticsRequest())
    others = client.list_registry_statistics(
        ListRegistryStatisticsRequest(registry_type="Other,Harbor")
    )

    assert (every.fail_num, every.success_num) == (2, 1)
    assert (others.fail_num, others.success_num) == (2, 0)


def test_the_upload_command_does_nothing_and_forgets_the_password(house, tenant):
    from huaweicloudsdkhss.v5 import ShowImageUploadCommandRequest

    answer = sdk_client(house, tenant).show_image_upload_command(
        ShowImageUploadCommandRequest(
            registry_addr="harbor.example",
            namespace="team",
            username="robot",
            password=PASSWORD,
        )
    )

    assert answer.image_command.startswith("true  # ")
    assert answer.swr_image_pull_command.startswith("true  # ")
    assert PASSWORD.encode() not in answer.raw_content


def test_the_policy_of_scans_names_the_registries_and_scans_none(house, tenant):
    from huaweicloudsdkhss.v5 import ListImageScanPolicyRequest

    registry = tenant.registry("swr")

    policy = sdk_client(house, tenant).list_image_scan_policy(
        ListImageScanPolicyRequest(type="image_scan", global_image_type="registry")
    )

    assert (policy.enabled, policy.is_all, policy.scan_scope) == (False, False, 0)
    assert policy.total_registry_num == 1
    (row,) = policy.registry_list
    assert (row.registry_id, row.registry_name) == (str(registry), "swr")
    assert (row.registry_type, row.is_selected) == ("SwrPrivate", False)


# --- the policy of scans: when registries are read ------------------------------------------------


def policy_of(house, tenant, **eps):
    from huaweicloudsdkhss.v5 import ListImageScanPolicyRequest

    request = ListImageScanPolicyRequest(type="image_scan", **eps)
    return sdk_client(house, tenant).list_image_scan_policy(request)


def set_policy(house, tenant, *, chosen=None, eps=None, **fields):
    from huaweicloudsdkhss import v5

    named = None
    if chosen is not None:
        kind = v5.CycleImageScanPolicyReqInfoRegistryInfo
        named = [kind(**one) for one in chosen]
    body = v5.CycleImageScanPolicyReqInfo(**fields, registry_info=named)
    request = v5.ModifyImageScanPolicyRequest(enterprise_project_id=eps, body=body)
    return sdk_client(house, tenant).modify_image_scan_policy(request)


def crons(tenant):
    return dict(
        tenant.sql.execute(
            "SELECT g.name, coalesce(s.cron, 'usual') FROM registry g"
            " LEFT JOIN schedule s ON s.registry_id = g.id WHERE g.project_id = %s",
            (tenant.id,),
        ).fetchall()
    )


def selected(policy):
    return {row.registry_name for row in policy.registry_list if row.is_selected}


def test_the_policy_says_how_often_registries_are_read_and_reads_as_it_was_set(house, tenant):
    first = tenant.registry("first")
    tenant.registry("second", "Harbor")
    tenant.registry("third")

    set_policy(
        house,
        tenant,
        enabled=True,
        scan_cycle=3,
        scan_scope=0,
        chosen=[{"registry_id": str(first)}, {"registry_type": "Harbor"}],
    )
    some = policy_of(house, tenant)
    set_policy(house, tenant, enabled=True, scan_cycle=14)
    every = policy_of(house, tenant)
    set_policy(house, tenant, enabled=False)
    none = policy_of(house, tenant)

    assert (some.enabled, some.is_all, some.scan_cycle) == (True, False, 3)
    assert selected(some) == {"first", "second"}
    assert (every.enabled, every.is_all, every.scan_cycle) == (True, True, 14)
    assert (none.enabled, none.is_all, none.scan_cycle) == (False, False, None)
    assert set(crons(tenant).values()) == {"0 1 * * *"}


def test_a_policy_replaces_the_one_before_and_no_schedule_of_anothers(house, tenant):
    first, second = tenant.registry("first"), tenant.registry("second")
    own = tenant.registry("own")
    schedule = f"/api/v1/projects/{tenant.id}/registries/{own}/schedule"
    hourly = b'{"cron": "@hourly", "paused": true}'
    call(house, schedule, method="PUT", token=tenant.token, body=hourly)

    set_policy(house, tenant, enabled=True, scan_cycle=7, chosen=[{"registry_id": str(first)}])
    set_policy(house, tenant, enabled=True, scan_cycle=3, chosen=[{"registry_id": str(second)}])

    assert crons(tenant) == {"first": "0 1 * * *", "second": "0 1 */3 * *", "own": "@hourly"}


def test_a_policy_wakes_no_registry_that_is_paused(house, tenant):
    registry = tenant.registry("idle")
    schedule = f"/api/v1/projects/{tenant.id}/registries/{registry}/schedule"
    call(house, schedule, method="PUT", token=tenant.token, body=b'{"paused": true}')

    set_policy(house, tenant, enabled=True, scan_cycle=7)

    _, _, body = call(house, f"/api/v1/projects/{tenant.id}/schedules", token=tenant.token)
    (found,) = body["items"]
    assert (found["cron"], found["next_at"]) == ("0 1 * * 1", None)
    assert found["paused_at"] is not None
    assert selected(policy_of(house, tenant)) == {"idle"}


def test_a_policy_is_for_the_enterprise_project_it_speaks_of(house, tenant):
    account = Caller(
        project_id=tenant.id,
        project_name="",
        principal="test",
        account_id=tenant.id,
        sees_every_enterprise_project=True,
    )
    other = house.run(EnterpriseProjects(house.database).create(account, "other")).id
    tenant.registry("here")
    tenant.registry("there", enterprise_project_id=other)

    set_policy(house, tenant, enabled=True, scan_cycle=7, eps=other)

    assert crons(tenant) == {"here": "usual", "there": "0 1 * * 1"}
    assert policy_of(house, tenant).enabled is False
    assert policy_of(house, tenant, enterprise_project_id=other).is_all is True


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"scan_scope": 0x7FFFFFFF}, "scan_scope: must be 0 or left out: nothing is scanned here"),
        ({"rate_limit": 10}, "rate_limit: must be 0 or left out"),
        ({"time_scope": 7}, "time_scope: must be 0 or left out"),
        ({"scan_cycle": 5}, "scan_cycle: must be 3, 7 or 14 days"),
        ({"scan_cycle": None}, "scan_cycle: must be 3, 7 or 14 days"),
        ({"enabled": None}, "enabled: is required"),
        ({"chosen": []}, "registry_info: must name at least one registry"),
        ({"chosen": [{"registry_name": "first"}]}, "registry_info: must give registry_id or"),
        ({"chosen": [{"registry_type": "Jfrog"}]}, "registry_info: there is no Jfrog registry"),
    ],
)
def test_what_a_policy_cannot_have_is_named_and_nothing_changes(house, tenant, fields, words):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    tenant.registry("first")

    with pytest.raises(ClientRequestException) as refused:
        set_policy(house, tenant, **{"enabled": True, "scan_cycle": 7, **fields})

    assert refused.value.status_code == 400
    assert words in refused.value.error_msg
    assert crons(tenant) == {"first": "usual"}


def test_a_policy_for_no_registry_at_all_is_refused(house, tenant):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    with pytest.raises(ClientRequestException, match="wharfinger swr configure"):
        set_policy(house, tenant, enabled=True, scan_cycle=7)


def test_images_of_containers_are_those_of_the_registries(house, tenant):
    from huaweicloudsdkhss.v5 import ListContainerImagesRequest

    registry = tenant.registry()
    image = tenant.image(registry, tenant.repository(registry, "team", "webshop"))
    tenant.image(registry, tenant.repository(registry, "team", "other"))

    answer = sdk_client(house, tenant).list_container_images(
        ListContainerImagesRequest(keyword="SHOP", limit=10, offset=0)
    )

    (row,) = answer.data_list
    assert answer.total_num == 1
    assert (row.image_id, row.image_name) == (str(image), "webshop")
    assert (row.image_version, row.create_time) == ("v1", AT_MS)


# --- adding, changing and deleting ---------------------------------------------------------------


def added(house, tenant, **changes):
    """Add a registry by the SDK; return its id."""
    from huaweicloudsdkhss.v5 import AddRegistryRequest, AddRegistryRequestBody

    given = {
        "registry_name": "plain",
        "registry_type": "Other",
        "api_version": "V2",
        "protocol": "https",
        "registry_addr": "registry.example:5000",
        "registry_username": "robot",
        "registry_password": PASSWORD,
        "namespace": "scanners",
        "connect_cluster_id": "cluster-1",
        "get_scan_image_channel": "Other",
    }
    eps = changes.pop("enterprise_project_id", None)
    body = AddRegistryRequestBody(**(given | changes))
    answer = sdk_client(house, tenant).add_registry(
        AddRegistryRequest(enterprise_project_id=eps, body=body)
    )
    assert PASSWORD.encode() not in answer.raw_content
    return json.loads(answer.raw_content)["id"]


def listed(house, tenant, **wanted):
    from huaweicloudsdkhss.v5 import ListRegistryRequest

    answer = sdk_client(house, tenant).list_registry(ListRegistryRequest(**wanted))
    assert PASSWORD.encode() not in answer.raw_content
    return {one.id: one for one in answer.data_list}


def update(house, tenant, registry_id, **body):
    from huaweicloudsdkhss.v5 import UpdateRegistryRequest, UpdateRegistryRequestBody

    sdk_client(house, tenant).update_registry(
        UpdateRegistryRequest(id=registry_id, body=UpdateRegistryRequestBody(**body))
    )


def credential_of(house, tenant, registry_id):
    async def opened():
        async with house.database.tenant(tenant.id) as tx:
            return await open_registry(tx, tenant.id, registry_id, seals=house.keys)

    return house.run(opened())[1]


def refused(house, tenant, method, path, body, code="HSS.0001"):
    """Send what must be refused; return the message."""
    status, _, answer = call(
        house,
        f"/v5/{tenant.id}/{path}",
        token=tenant.token,
        method=method,
        body=json.dumps(body).encode(),
    )
    assert (status, answer.get("error_code")) == (400, code), answer
    return answer["error_msg"]


def test_an_added_registry_is_listed_as_it_was_given_and_its_password_kept_sealed(house, tenant):
    registry_id = added(house, tenant)

    one = listed(house, tenant)[registry_id].to_dict()

    assert (
        one
        | {
            "registry_name": "plain",
            "registry_type": "Other",
            "api_version": "V2",
            "protocol": "https",
            "registry_addr": "registry.example:5000",
            "registry_username": "robot",
            "namespace": "scanners",
            "connect_cluster_id": "cluster-1",
            "get_scan_image_channel": "Other",
            "status": "accessing",
            "images_num": 0,
            "latest_sync_time": None,
        }
        == one
    )
    stored = tenant.sql.execute("SELECT r::text FROM registry r WHERE id = %s", (registry_id,))
    assert PASSWORD.encode().hex() not in stored.fetchone()[0]
    credential = credential_of(house, tenant, registry_id)
    assert (credential.kind, credential.identity, credential.secret) == ("basic", "robot", PASSWORD)


def test_every_filter_finds_what_was_added(house, tenant):
    registry_id = added(house, tenant)
    added(house, tenant, registry_name="another", registry_addr="10.0.0.1:443", protocol="http")

    for wanted in (
        {"registry_name": "plain"},
        {"registry_id": registry_id},
        {"registry_addr": "registry.example:5000"},
        {"registry_type": "Other,Harbor", "registry_name": "plain", "status": "accessing"},
    ):
        assert set(listed(house, tenant, **wanted)) == {registry_id}, wanted
    assert listed(house, tenant, status="fail") == listed(house, tenant, registry_name="pla") == {}


def test_an_added_registry_reaches_no_private_network(house, tenant):
    added(house, tenant)

    row = tenant.sql.execute(
        "SELECT allow_private_networks FROM registry WHERE project_id = %s", (tenant.id,)
    )
    assert row.fetchone() == (False,)


def test_the_keys_of_a_swr_registry_are_an_access_key(house, tenant):
    registry_id = added(house, tenant, registry_type="SwrPrivate")

    assert credential_of(house, tenant, registry_id).kind == "access_key"


def test_what_is_not_given_stays_as_it_was(house, tenant):
    registry_id = added(house, tenant)

    update(house, tenant, registry_id, get_scan_image_channel="Swr")
    update(house, tenant, registry_id)
    one = listed(house, tenant)[registry_id]

    assert (one.get_scan_image_channel, one.namespace) == ("Swr", "scanners")
    assert (one.registry_addr, one.registry_username) == ("registry.example:5000", "robot")
    assert credential_of(house, tenant, registry_id).secret == PASSWORD


def test_a_registry_moves_and_gets_another_login(house, tenant):
    registry_id = added(house, tenant)

    update(house, tenant, registry_id, registry_addr="new.example", registry_password="another")
    update(house, tenant, registry_id, protocol="http", registry_password="third")
    moved = listed(house, tenant)[registry_id]
    login = credential_of(house, tenant, registry_id)
    update(house, tenant, registry_id, registry_username="reader", registry_password="fourth")
    renamed = credential_of(house, tenant, registry_id)

    assert (moved.protocol, moved.registry_addr) == ("http", "new.example")
    assert (login.identity, login.secret) == ("robot", "third")
    assert (renamed.identity, renamed.secret) == ("reader", "fourth")


@pytest.mark.parametrize("change", [{"registry_addr": "thief.example"}, {"protocol": "http"}])
def test_a_stored_password_is_sent_to_no_new_address(house, tenant, change):
    registry_id = added(house, tenant)

    told = refused(house, tenant, "PUT", f"image/registries/{registry_id}", change)

    assert told.startswith("registry_password: must be given again with another address")
    one = listed(house, tenant)[registry_id]
    assert (one.protocol, one.registry_addr) == ("https", "registry.example:5000")


def test_a_deleted_registry_leaves_the_list_and_its_history_stays(house, tenant):
    from huaweicloudsdkhss.v5 import DeleteRegistryRequest, ListRegistryImagesRequest

    registry = str(tenant.registry(live_images=1))
    repository = tenant.repository(registry)
    image = tenant.image(registry, repository)
    client = sdk_client(house, tenant)

    client.delete_registry(DeleteRegistryRequest(id=registry))

    assert listed(house, tenant) == {}
    assert client.list_registry_images(ListRegistryImagesRequest()).total_num == 0
    _, _, feed = call(house, f"/api/v1/projects/{tenant.id}/changes", token=tenant.token)
    assert [(one["kind"], one["image"]) for one in feed["items"]] == [("retired", image)]
    refused(house, tenant, "DELETE", f"image/registries/{registry}", {}, code="HSS.0011")


def test_many_are_deleted_all_together_or_not_at_all(house, tenant):
    from huaweicloudsdkhss.v5 import BatchDeleteRegistryRequest, BatchDeleteRegistryRequestBody

    one, two, stays = (str(tenant.registry(name)) for name in ("one", "two", "stays"))
    unknown = "00000000-0000-0000-0000-000000000000"
    path = "image/registries/batch-delete"

    told = refused(house, tenant, "POST", path, {"ids": [one, unknown]}, code="HSS.0011")
    before = set(listed(house, tenant))
    body = BatchDeleteRegistryRequestBody(ids=[two, one, two])
    sdk_client(house, tenant).batch_delete_registry(BatchDeleteRegistryRequest(body=body))

    assert unknown in told
    assert before == {one, two, stays}
    assert set(listed(house, tenant)) == {stays}


def test_who_changed_a_registry_is_told_by_the_audit_and_no_password_is(house, tenant):
    registry_id = added(house, tenant)
    update(house, tenant, registry_id, registry_addr="new.example", registry_password="another")
    call(
        house,
        f"/v5/{tenant.id}/image/registries/{registry_id}",
        token=tenant.token,
        method="DELETE",
    )

    rows = tenant.sql.execute(
        "SELECT action, target, outcome, details::text FROM audit WHERE project_id = %s"
        " AND action LIKE 'registry.%%' ORDER BY id",
        (tenant.id,),
    ).fetchall()

    assert [row[0] for row in rows] == ["registry.add", "registry.set", "registry.remove"]
    assert {row[1:3] for row in rows} == {(f"registry {registry_id}", "done")}
    assert not any(PASSWORD in row[3] or "another" in row[3] for row in rows)


def test_a_registry_of_another_tenant_is_none(house, tenant):
    other = house.tenant("other")
    theirs = str(other.registry())

    for method, path, body in (
        ("PUT", f"image/registries/{theirs}", {"protocol": "http"}),
        ("DELETE", f"image/registries/{theirs}", {}),
        ("POST", "image/registries/batch-delete", {"ids": [theirs]}),
    ):
        assert theirs in refused(house, tenant, method, path, body, code="HSS.0011")
    assert set(listed(house, other)) == {theirs}


def test_a_registry_of_an_enterprise_project_that_was_not_asked_for_is_none(house, tenant):
    elsewhere = str(tenant.registry("elsewhere", enterprise_project_id="eps-2"))

    for method, path, body in (
        ("PUT", f"image/registries/{elsewhere}", {"protocol": "http"}),
        ("DELETE", f"image/registries/{elsewhere}", {}),
        ("POST", "image/registries/batch-delete", {"ids": [elsewhere]}),
    ):
        refused(house, tenant, method, path, body, code="HSS.0011")
    body = json.loads(GOOD)
    path = "image/registries?enterprise_project_id=all_granted_eps"
    assert "must be the one" in refused(house, tenant, "POST", path, body)


def test_a_project_holds_a_hundred_registries_that_its_users_add(house, tenant):
    for number in range(100):
        tenant.registry(f"number {number}")

    told = refused(house, tenant, "POST", "image/registries", json.loads(GOOD))
    operator = Caller(project_id=tenant.id, project_name="", principal="operator", is_operator=True)
    new = NewRegistry(name="one more", kind="Other", address="https://registry.example")
    house.run(house.registries.add(operator, new, RegistryCredential(kind="none")))

    assert "100 registries" in told


GOOD = """
{"registry_name": "plain", "registry_type": "Other", "registry_addr": "registry.example"}
"""
ONE = "image/registries/00000000-0000-0000-0000-000000000000"


def test_what_a_registry_needs_at_least_is_a_name_a_type_and_an_address(house, tenant):
    path = f"/v5/{tenant.id}/image/registries"
    for name in json.loads(GOOD):
        body = {k: v for k, v in json.loads(GOOD).items() if k != name}
        assert refused(house, tenant, "POST", "image/registries", body).startswith(
            f"{name}: is required"
        )

    status, _, answer = call(
        house, path, token=tenant.token, method="POST", body=GOOD.strip().encode()
    )

    assert status == 200
    assert credential_of(house, tenant, answer["id"]).kind == "none"
    told = refused(house, tenant, "POST", "image/registries", json.loads(GOOD))
    assert "a registry named 'plain' already" in told


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("registry_name", "", "must be 1 to 128 characters"),
        ("registry_name", "x" * 129, "must be 1 to 128 characters"),
        ("registry_name", "a\0b", "must be UTF-8 text without NUL"),
        ("registry_name", 7, "Expected `str | null`, got `int`"),
        ("registry_type", "Quay", "must be SwrPrivate or"),
        ("api_version", "V3", "must be V1 or V2"),
        ("api_version", "V1", "must be V2: V1 is not read by this service"),
        ("protocol", "ftp", "must be http or https"),
        ("registry_addr", "", "must be 1 to 256 characters"),
        ("registry_addr", "x" * 257, "must be 1 to 256 characters"),
        ("registry_addr", "https://registry.example", "must be host or host:port"),
        ("registry_addr", "user:pw@registry.example", "must not hold credentials"),
        ("registry_addr", "registry.example?x=1", "must have no query, fragment or blanks"),
        ("registry_addr", "registry.example:port", "must be a URL"),
        ("registry_username", "", "must be 1 to 128 characters"),
        ("registry_username", "x" * 129, "must be 1 to 128 characters"),
        ("registry_password", "", "must be 1 to 128 characters"),
        ("registry_password", "x" * 129, "must be 1 to 128 characters"),
        ("registry_password", "two\nlines", "must not hold line breaks"),
        ("registry_password", "env:HOME", "must be the password itself; only the operator's"),
        ("registry_password", "file:/etc/passwd", "must be the password itself"),
        ("registry_password", "EXEC:id", "must be the password itself"),
        ("namespace", "x" * 129, "must be 1 to 128 characters"),
        ("namespace", "", "is required where get_scan_image_channel is Other"),
        ("connect_cluster_id", "x" * 65, "must be 1 to 64 characters"),
        ("get_scan_image_channel", "Scp", "must be Swr or Other"),
    ],
)
def test_a_value_out_of_range_names_parameter_and_range(house, tenant, name, value, rule):
    body = json.loads(GOOD) | {
        "registry_username": "robot",
        "registry_password": PASSWORD,
        "get_scan_image_channel": "Other",
        "namespace": "scanners",
    }

    told = refused(house, tenant, "POST", "image/registries", body | {name: value})

    assert told.startswith(f"{name}: ")
    assert rule in told
    assert listed(house, tenant) == {}


@pytest.mark.parametrize(
    ("method", "path", "body", "rule"),
    [
        ("PUT", ONE, {"protocol": "ftp"}, "protocol: must be http or https"),
        ("PUT", ONE, {"registry_addr": ""}, "registry_addr: must be 1 to 256 characters"),
        ("PUT", f"image/registries/{'x' * 65}", {}, "id: must be 1 to 64 characters"),
        ("DELETE", f"image/registries/{'x' * 65}", {}, "id: must be 1 to 64 characters"),
        ("POST", "image/registries/batch-delete", {}, "ids: must be 1 to 100 ids"),
        ("POST", "image/registries/batch-delete", {"ids": [ONE] * 101}, "ids: must be 1 to 100"),
        ("POST", "image/registries/batch-delete", {"ids": [""]}, "ids: must be 1 to 64"),
        ("POST", "image/registries/batch-delete", {"ids": "all"}, "ids: Expected `array`"),
    ],
)
def test_a_change_out_of_range_names_parameter_and_range(house, tenant, method, path, body, rule):
    assert refused(house, tenant, method, path, body).startswith(rule)


@pytest.mark.parametrize("given", ["registry_username", "registry_password"])
def test_a_name_and_a_password_come_together(house, tenant, given):
    body = json.loads(GOOD) | {given: "robot"}

    told = refused(house, tenant, "POST", "image/registries", body)

    other = {"registry_username", "registry_password"} - {given}
    assert told == f"{other.pop()}: is required beside {given}"


def test_ids_that_are_none_are_unknown(house, tenant):
    for method in ("PUT", "DELETE"):
        told = refused(house, tenant, method, "image/registries/nobody", {}, code="HSS.0011")
        assert told == "id: there is no registry nobody"
