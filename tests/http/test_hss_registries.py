"""What the official SDK can ask and tell about registries, over the real store."""

from __future__ import annotations

from clients import sdk_client

from rows import AT_MS

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
            password="secret-of-robot",
        )
    )

    assert answer.image_command.startswith("true  # ")
    assert answer.swr_image_pull_command.startswith("true  # ")
    assert b"secret-of-robot" not in answer.raw_content


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
