"""A tenant adds a Harbor with the official SDK, synchronises it, reads it, and deletes it again."""

from __future__ import annotations

import asyncio
import json
import time
from ipaddress import ip_network

import pytest

from http_port import serving
from wharfinger.testing.harbor import HarborUpstream
from wharfinger.testing.model import made_up_world

pytestmark = pytest.mark.filterwarnings("ignore:Method .* is deprecated:DeprecationWarning")


class Tenant:
    """What a script of a tenant's does; every call blocks."""

    def __init__(self, key, project_id, url):
        from huaweicloudsdkcore.auth.credentials import BasicCredentials
        from huaweicloudsdkhss import v5

        self.v5 = v5
        credentials = BasicCredentials(key.access_key, key.secret_key, project_id)
        builder = v5.HssClient.new_builder().with_credentials(credentials)
        self.hss = builder.with_endpoint(url).build()

    def add(self, harbor):
        body = self.v5.AddRegistryRequestBody(
            registry_name="harbour",
            registry_type="Harbor",
            api_version="V2",
            protocol="http",
            registry_addr=harbor.host,
            registry_username="admin",
            registry_password=harbor.accounts["admin"].password,
            connect_cluster_id="none-is-needed",
            get_scan_image_channel="Swr",
        )
        answer = self.hss.add_registry(self.v5.AddRegistryRequest(body=body))
        return json.loads(answer.raw_content)["id"]

    def synchronise(self, **what):
        """Start a task and wait for its end; return it, and its registries as they were sent."""
        body = self.v5.CreateImageSynchronizeTaskRequestInfo(**what)
        answer = self.hss.create_image_synchronize_task(
            self.v5.CreateImageSynchronizeTaskRequest(body=body)
        )
        task_id = json.loads(answer.raw_content)["task_id"]
        deadline = time.monotonic() + 20
        while True:
            (task,) = self.hss.list_image_scan_task(
                self.v5.ListImageScanTaskRequest(type="image_sync", task_id=task_id)
            ).data_list
            if task.end_time is not None:
                break
            assert time.monotonic() < deadline, task
            time.sleep(0.05)
        registries = self.hss.list_associate_registries(
            self.v5.ListAssociateRegistriesRequest(task_id=task_id)
        )
        return task, json.loads(registries.raw_content)["data_list"]

    def images(self):
        request = self.v5.ListRegistryImagesRequest(image_type="harbor", limit=200)
        return self.hss.list_registry_images(request).data_list

    def counts(self):
        answer = self.hss.list_registry_statistics(self.v5.ListRegistryStatisticsRequest())
        return answer.success_num, answer.fail_num


def work(tenant, harbor, allow):
    """The whole story; ``allow`` is the operator, who opens the loopback network."""
    chosen = tenant.v5.CreateImageSynchronizeTaskRequestInfoRegistryInfo
    registry_id = tenant.add(harbor)
    new = tenant.counts()
    refused, (why,) = tenant.synchronise(sync_all_registries=True)
    failing = tenant.counts()
    asked = len(harbor.log)
    allow()
    good, (how,) = tenant.synchronise(registry_info=[chosen(registry_type="Harbor")])
    images = tenant.images()
    counts = tenant.counts()
    tenant.hss.delete_registry(tenant.v5.DeleteRegistryRequest(id=registry_id))
    return {
        "refused": (new, refused.task_status, refused.is_all, why["failed_code"], failing, asked),
        "good": (good.task_status, good.is_all, how["sync_status"], how["failed_code"], counts),
        "images": {(row.namespace, row.image_name, row.image_version) for row in images},
        "after": tenant.images(),
    }


async def test_a_tenant_adds_a_harbor_and_reads_its_images(yard):
    async with HarborUpstream(made_up_world(2, 3)) as harbor, serving(yard.house) as url:
        key = await yard.house.callers.create_credential(yard.caller.project_id)
        tenant = await asyncio.to_thread(Tenant, key, yard.caller.project_id, url)

        def allow():
            # As WHARFINGER_ALLOW_NETWORKS would; and what was opened before stays as it was.
            yard.house.opener._networks = (ip_network("127.0.0.0/8"),)
            yard.owner.execute("UPDATE registry SET config_generation = config_generation + 1")

        told = await asyncio.to_thread(work, tenant, harbor, allow)

        listed = {(r.namespace, r.name, t) for r in harbor.world.owned() for t in r.tags}
        assert told["refused"] == ((0, 0), -3, True, "address_refused", (0, 1), 0)
        assert told["good"] == (100, False, "finished", None, (1, 0))
        assert told["images"] >= listed
        assert len(listed) == 6
        assert told["after"] == []
