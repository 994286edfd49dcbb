"""The founding call and its tasks over the real synchroniser; only the job engine stands still."""

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
