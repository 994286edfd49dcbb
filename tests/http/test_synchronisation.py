"""The founding call and its tasks over the real synchroniser; only the job engine stands still."""

import json

import pytest
from clients import call, sdk_client
from house import House

from wharfinger.service.synchronise import Synchroniser

pytestmark = pytest.mark.filterwarnings("ignore:Method .* is deprecated:DeprecationWarning")


class NobodyWorks:
    """Takes jobs in and leaves them there."""

    def __init__(self) -> None:
        self.planned = []

    async def plan(self, tx, **job):
        self.planned.append(job)


@pytest.fixture
def jobs():
    return NobodyWorks()


@pytest.fixture
def house(database_address, owner_connection, tmp_path, jobs):
    running = House(
        database_address,
        tmp_path / "secret.key",
        owner_connection,
        lambda database: Synchroniser(database, jobs),
    )
    running.start()
    yield running
    running.stop()


def test_the_sdk_starts_a_task_and_follows_it(house, tenant, jobs):
    from huaweicloudsdkhss.v5 import (
        ListAssociateRegistriesRequest,
        ListImageScanTaskRequest,
        RunImageSynchronizeRequest,
        RunImageSynchronizeRequestInfo,
    )

    registry = tenant.registry()
    client = sdk_client(house, tenant)
    body = RunImageSynchronizeRequestInfo(image_type="private_image")

    client.run_image_synchronize(RunImageSynchronizeRequest(body=body))
    tasks = client.list_image_scan_task(ListImageScanTaskRequest(type="image_sync"))
    task = tasks.data_list[0]
    runs = client.list_associate_registries(ListAssociateRegistriesRequest(task_id=task.task_id))

    assert (tasks.total_num, task.task_type, task.task_status) == (1, "manualSync", 0)
    assert [(run.registry_id, run.sync_status) for run in runs.data_list] == [
        (str(registry), "running")
    ]
    assert [job["project_id"] for job in jobs.planned] == [tenant.id]


def test_tasks_of_all_of_some_and_of_a_type_are_told_apart_and_filtered(house, tenant):
    from huaweicloudsdkhss.v5 import (
        CreateImageSynchronizeTaskRequest,
        CreateImageSynchronizeTaskRequestInfo,
        CreateImageSynchronizeTaskRequestInfoRegistryInfo,
        ListAssociateRegistriesRequest,
        ListImageScanTaskRequest,
    )

    swr, plain = tenant.registry("swr"), tenant.registry("plain", "Other")
    client = sdk_client(house, tenant)

    def start(**body):
        info = CreateImageSynchronizeTaskRequestInfo(**body)
        answer = client.create_image_synchronize_task(CreateImageSynchronizeTaskRequest(body=info))
        return json.loads(answer.raw_content)["task_id"]

    def registries_of(task_id, **wanted):
        answer = client.list_associate_registries(
            ListAssociateRegistriesRequest(task_id=task_id, **wanted)
        )
        return {one.registry_id for one in answer.data_list}

    def listed(**wanted):
        answer = client.list_image_scan_task(
            ListImageScanTaskRequest(type="image_sync", limit=200, **wanted)
        )
        return {one.task_id: one.is_all for one in answer.data_list}

    chosen = CreateImageSynchronizeTaskRequestInfoRegistryInfo
    everything = start(sync_all_registries=True)
    one = start(registry_info=[chosen(registry_id=str(plain), registry_type="Other")])
    kind = start(registry_info=[chosen(registry_type="SwrPrivate")])

    assert registries_of(everything) == {str(swr), str(plain)}
    assert registries_of(one) == {str(plain)}
    assert registries_of(kind) == {str(swr)}
    assert registries_of(everything, registry_type="Other,Harbor") == {str(plain)}
    assert registries_of(everything, registry_name="swr", sync_status="running") == {str(swr)}
    assert registries_of(everything, sync_status="finished") == set()
    assert listed() == {everything: True, one: False, kind: False}
    assert set(listed(task_type="manualSync", task_status="scanning")) == {everything, one, kind}
    assert listed(task_type="autoSync") == listed(task_status="finished") == {}
    assert listed(task_id=one, global_image_type="registry") == {one: False}
    assert listed(task_name="image-sync", create_time=0, end_time=4070880000000) == listed()
    assert listed(task_name="nothing like it") == listed(end_time=1) == {}
    tenant.sql.execute("UPDATE task SET sync_type = 'autoSync' WHERE id = %s", (kind,))
    assert set(listed(task_type="autoSync")) == {kind}
    assert set(listed(task_type="manualSync")) == {everything, one}


def test_a_project_without_the_registry_is_told_the_command(house, tenant, jobs):
    status, _, body = call(
        house,
        f"/v5/{tenant.id}/image/synchronize",
        token=tenant.token,
        method="POST",
        body=b'{"image_type": "shared_image"}',
    )

    assert (status, body["error_code"]) == (400, "HSS.0011")
    assert "wharfinger swr configure --project" in body["error_msg"]
    assert jobs.planned == []


def test_tasks_of_another_tenant_do_not_show(house, tenant):
    other = house.tenant("other")
    other.registry()
    _, headers, _ = call(
        house,
        f"/v5/{other.id}/image/synchronize",
        token=other.token,
        method="POST",
        body=b'{"image_type": "private_image"}',
    )
    task_id = headers["X-Wharfinger-Task-Id"]

    _, _, mine = call(house, f"/v5/{tenant.id}/image/tasks?type=image_sync", token=tenant.token)
    status, _, body = call(
        house, f"/v5/{tenant.id}/image/image-sync/tasks/{task_id}/registries", token=tenant.token
    )

    assert mine == {"total_num": 0, "data_list": []}
    assert (status, body["error_code"]) == (400, "HSS.0011")
