"""The official client is the judge of the wire contract."""

import pytest
import requests
from clients import async_sdk_client, sdk_client
from house import TASK_ID, run_progress
from psycopg.types.json import Jsonb

from rows import AT, AT_MS
from wharfinger.domain.errors import StoreUnavailableError
from wharfinger.domain.model import TaskProgress

pytestmark = pytest.mark.filterwarnings("ignore:Method .* is deprecated:DeprecationWarning")

NEVER_NULL = {
    "id",
    "namespace",
    "image_name",
    "image_id",
    "image_digest",
    "image_version",
    "image_type",
    "registry_id",
    "registry_name",
    "registry_type",
    "latest_version",
    "scan_status",
    "image_size",
    "latest_update_time",
    "latest_sync_time",
    "vul_num",
    "unsafe_setting_num",
    "malicious_file_num",
    "scannable",
    "is_multiple_arch",
}


def synchronize_request(**changes):
    from huaweicloudsdkhss.v5 import RunImageSynchronizeRequest, RunImageSynchronizeRequestInfo

    body = RunImageSynchronizeRequestInfo(image_type="private_image")
    return RunImageSynchronizeRequest(
        **({"region": "cn-north-4", "enterprise_project_id": "all_granted_eps", "body": body})
        | changes
    )


def test_it_asks_for_a_synchronisation(house, tenant):
    answer = sdk_client(house, tenant).run_image_synchronize(synchronize_request())

    assert (answer.error_code, answer.error_description) == (0, "success")
    assert house.synchroniser.asked == [(tenant.id, "SwrPrivate", "all_granted_eps")]


def test_it_reads_every_field_of_an_image(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    registry = tenant.registry()
    repository = tenant.repository(registry, "team", "deep/app", owner="someone")
    image = tenant.image(registry, repository, latest=True, size=3_000_000_000)

    answer = sdk_client(house, tenant).list_registry_images(ListRegistryImagesRequest())

    row = answer.data_list[0].to_dict()
    assert answer.total_num == 1
    assert {name for name, value in row.items() if value is not None} >= NEVER_NULL
    assert row["association_images"] == []
    assert (row["id"], row["namespace"], row["image_name"]) == (image, "team", "deep/app")
    assert (row["image_version"], row["image_size"]) == ("v1", 3_000_000_000)
    assert (row["image_type"], row["registry_type"]) == ("private_image", "SwrPrivate")
    assert (row["registry_id"], row["registry_name"]) == (str(registry), "swr")
    assert (row["latest_update_time"], row["latest_sync_time"]) == (AT_MS, AT_MS)
    assert (row["scan_status"], row["latest_scan_time"]) == ("unscan", None)
    assert (row["latest_version"], row["is_multiple_arch"]) == (True, False)
    assert row["domain_name"] == "someone"


def test_it_reads_the_platforms_of_an_index(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    registry = tenant.registry("plain", "Other")
    repository = tenant.repository(registry)
    tenant.image(registry, repository, digest="sha256:index", is_index=True)
    child = tenant.image(registry, repository, tag=None, digest="sha256:arm")
    for position, digest in enumerate(("sha256:amd", "sha256:arm")):
        tenant.sql.execute(
            "INSERT INTO platform VALUES (%s, %s, 'sha256:index', %s, %s, 'linux', %s, '', 7, %s)",
            (tenant.id, registry, position, digest, digest[-3:], f"config-{digest[-3:]}"),
        )

    answer = sdk_client(house, tenant).list_registry_images(
        ListRegistryImagesRequest(is_multarch=True)
    )

    assert answer.total_num == 1
    assert answer.data_list[0].image_type == "other"
    platforms = [platform.to_dict() for platform in answer.data_list[0].association_images]
    assert [(one["image_digest"], one["id"]) for one in platforms] == [
        ("sha256:amd", None),
        ("sha256:arm", child),
    ]
    assert platforms[0]["image_id"] == "config-amd"


def test_it_reads_an_image_of_artifactory(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    artifactory = tenant.registry("artifactory", "Jfrog")
    tenant.image(artifactory, tenant.repository(artifactory, "docker-local", "team/app"))
    swr = tenant.registry()
    tenant.image(swr, tenant.repository(swr))

    answer = sdk_client(house, tenant).list_registry_images(
        ListRegistryImagesRequest(image_type="jfrog")
    )

    assert answer.total_num == 1
    (row,) = answer.data_list
    assert (row.image_type, row.registry_type) == ("jfrog", "Jfrog")
    assert (row.registry_name, row.namespace, row.image_name) == (
        "artifactory",
        "docker-local",
        "team/app",
    )


def test_it_reads_the_older_list(house, tenant):
    from huaweicloudsdkhss.v5 import ListSwrImageRepositoryRequest

    private, shared = tenant.registry(), tenant.registry("theirs", "SwrShared")
    tenant.image(private, tenant.repository(private))
    tenant.image(
        shared,
        tenant.repository(shared, "them", "app", owner="them", shared_status="effective"),
        tag="v2",
    )

    client = sdk_client(house, tenant)
    answer = client.list_swr_image_repository(
        ListSwrImageRepositoryRequest(image_type="shared_image", region="cn-north-4")
    )
    none = client.list_swr_image_repository(ListSwrImageRepositoryRequest(image_type="local_image"))

    assert [row.image_version for row in answer.data_list] == ["v2"]
    assert (answer.data_list[0].domain_name, answer.data_list[0].shared_status) == (
        "them",
        "effective",
    )
    assert (none.total_num, none.data_list) == (0, [])


INSTANCES = (("prod", "i-1", "prod-1.swr-pro.example.com"), ("test", "i-2", ""))


@pytest.fixture
def instances(tenant):
    """Two instances of SWR enterprise with an image each, and a registry that is none."""
    for name, instance_id, url in INSTANCES:
        options = {"instance_id": instance_id, "instance_name": name, "instance_url": url}
        registry = tenant.registry(f"swr-{name}", "SwrEnterprise", options=Jsonb(options))
        tenant.image(registry, tenant.repository(registry, name=f"of-{name}"))
    plain = tenant.registry()
    tenant.image(plain, tenant.repository(plain, name="plain"))


def instance_of(row):
    return row.image_name, row.instance_id, row.instance_name, row.instance_url


@pytest.mark.usefixtures("instances")
def test_it_reads_which_instance_an_image_is_of(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    client = sdk_client(house, tenant)
    everything = client.list_registry_images(ListRegistryImagesRequest())
    by_type = client.list_registry_images(ListRegistryImagesRequest(image_type="instance_image"))

    assert [instance_of(row) for row in everything.data_list] == [
        ("of-prod", "i-1", "prod", "prod-1.swr-pro.example.com"),
        ("of-test", "i-2", "test", None),
        ("plain", None, None, None),
    ]
    assert by_type.data_list == everything.data_list[:2]
    assert {row.registry_type for row in by_type.data_list} == {"SwrEnterprise"}
    assert {row.image_type for row in by_type.data_list} == {"instance_image"}


@pytest.mark.parametrize(
    ("question", "found"),
    [
        ({"instance_id": "i-2"}, ["of-test"]),
        ({"instance_name": "prod"}, ["of-prod"]),
        ({"instance_name": "pro"}, []),
        ({"instance_id": "i-1", "instance_name": "test"}, []),
        ({"instance_id": "", "instance_name": ""}, ["of-prod", "of-test"]),
    ],
)
@pytest.mark.usefixtures("instances")
def test_it_asks_both_lists_for_an_instance(house, tenant, question, found):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest, ListSwrImageRepositoryRequest

    client = sdk_client(house, tenant)
    newer = client.list_registry_images(
        ListRegistryImagesRequest(image_type="instance_image", **question)
    )
    older = client.list_swr_image_repository(
        ListSwrImageRepositoryRequest(image_type="instance_image", **question)
    )

    assert [row.image_name for row in newer.data_list] == found
    assert [instance_of(row) for row in older.data_list] == [
        instance_of(row) for row in newer.data_list
    ]
    assert (newer.total_num, older.total_num) == (len(found), len(found))


def test_it_sends_awkward_text_and_finds_it(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    registry = tenant.registry()
    tenant.image(registry, tenant.repository(registry, "my ns/a+b", "镜像~*%_(x)!"))
    tenant.image(registry, tenant.repository(registry, "my ns/a+b", "镜像~*other"))

    answer = sdk_client(house, tenant).list_registry_images(
        ListRegistryImagesRequest(namespace="my ns/a+b", image_name="~*%_(", limit=1, offset=0)
    )

    assert [row.image_name for row in answer.data_list] == ["镜像~*%_(x)!"]
    assert answer.total_num == 1


def test_it_reads_registries_and_statistics(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryRequest, ShowImageAssetStatisticsRequest

    swr = tenant.registry("swr")
    tenant.registry(
        "broken",
        "Other",
        verdict="never",
        confirmed_at=None,
        address="http://10.0.0.1:5000",
        credential_kind="basic",
        credential_identity="robot",
        verdict_reasons='[{"code": "unreachable", "message": "no route", "repository": null}]',
    )
    tenant.image(swr, tenant.repository(swr))
    client = sdk_client(house, tenant)

    answer = client.list_registry(ListRegistryRequest(registry_type="SwrPrivate,Other"))
    failing = client.list_registry(ListRegistryRequest(status="fail"))
    statistics = client.show_image_asset_statistics(ShowImageAssetStatisticsRequest())

    broken, good = answer.data_list
    assert (answer.total_num, good.registry_name, good.status) == (2, "swr", "success")
    assert (good.images_num, good.latest_sync_time) == (1, AT_MS)
    assert (broken.protocol, broken.registry_addr) == ("http", "10.0.0.1:5000")
    assert (broken.status, broken.fail_reason) == ("fail", "REQUEST_API_ERROR")
    assert (broken.registry_username, good.registry_username) == ("robot", None)
    assert [one.registry_name for one in failing.data_list] == ["broken"]
    assert (statistics.registry_num, statistics.local_num, statistics.cicd_num) == (1, 0, 0)


def test_it_follows_a_task(house, tenant):
    from huaweicloudsdkhss.v5 import (
        CreateImageSynchronizeTaskRequest,
        CreateImageSynchronizeTaskRequestInfo,
        ListAssociateRegistriesRequest,
        ListImageScanTaskRequest,
    )

    house.synchroniser.progress = [
        TaskProgress(
            id=TASK_ID,
            name="sync",
            sync_type="manualSync",
            created_at=AT,
            finished_at=None,
            runs=(run_progress(images=7),),
        )
    ]
    client = sdk_client(house, tenant)

    created = client.create_image_synchronize_task(
        CreateImageSynchronizeTaskRequest(
            body=CreateImageSynchronizeTaskRequestInfo(sync_all_registries=True)
        )
    )
    tasks = client.list_image_scan_task(ListImageScanTaskRequest(type="image_sync", limit=200))
    runs = client.list_associate_registries(ListAssociateRegistriesRequest(task_id=TASK_ID))

    assert TASK_ID in created.raw_content.decode()
    assert (tasks.total_num, tasks.data_list[0].task_id) == (1, TASK_ID)
    assert (tasks.data_list[0].begin_time, tasks.data_list[0].task_status) == (AT_MS, 100)
    assert [(run.registry_type, run.sync_status) for run in runs.data_list] == [
        ("SwrPrivate", "finished")
    ]


async def test_its_asynchronous_client_works_as_well(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    registry = tenant.registry()
    tenant.image(registry, tenant.repository(registry))
    client = async_sdk_client(house, tenant)

    synchronized = client.run_image_synchronize_async(synchronize_request()).result()
    images = client.list_registry_images_async(ListRegistryImagesRequest()).result()

    assert synchronized.error_code == 0
    assert images.total_num == 1


def test_an_unmodified_client_finds_server_and_project_by_environment(house, tenant, monkeypatch):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkhss.v5 import HssClient, ListRegistryImagesRequest
    from huaweicloudsdkhss.v5.region.hss_region import HssRegion

    monkeypatch.setenv("HUAWEICLOUD_SDK_REGION_HSS_CN_NORTH_4", house.url)
    monkeypatch.setenv("HUAWEICLOUD_SDK_IAM_ENDPOINT", house.url)
    credentials = BasicCredentials(tenant.credential.access_key, tenant.credential.secret_key)

    client = (
        HssClient.new_builder()
        .with_credentials(credentials)
        .with_region(HssRegion.value_of("cn-north-4"))
        .build()
    )
    answer = client.list_registry_images(ListRegistryImagesRequest())

    assert answer.total_num == 0
    assert credentials.project_id == tenant.id


def test_a_token_can_be_preset_beside_the_signature_or_instead_of_it(house, tenant):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    both = sdk_client(house, tenant)
    both.preset_headers = {"X-Auth-Token": tenant.token}
    token_only = sdk_client(house, tenant, access_key="x", secret_key="x")
    token_only.preset_headers = {"X-Auth-Token": tenant.token, "Authorization": "x"}
    wrong = sdk_client(house, tenant, secret_key="wrong")
    wrong.preset_headers = {"X-Auth-Token": tenant.token}

    assert both.list_registry_images(ListRegistryImagesRequest()).total_num == 0
    assert token_only.list_registry_images(ListRegistryImagesRequest()).total_num == 0
    with pytest.raises(ClientRequestException) as refused:
        wrong.list_registry_images(ListRegistryImagesRequest())
    assert refused.value.status_code == 401


@pytest.mark.parametrize(
    ("changes", "detail"),
    [
        ({"secret_key": "wrong"}, "verify aksk signature fail"),
        ({"access_key": "AKNOBODY"}, "Get secretKey failed,ak:***,err:ak not exist"),
        ({"project_id": "another"}, "X-Project-Id is not the project of the credential"),
    ],
)
def test_it_is_told_why_its_credentials_are_refused(house, tenant, changes, detail):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    with pytest.raises(ClientRequestException) as refused:
        sdk_client(house, tenant, **changes).run_image_synchronize(synchronize_request())

    assert refused.value.status_code == 401
    assert refused.value.error_code == "APIGW.0301"
    assert refused.value.error_msg == f"Incorrect IAM authentication information: {detail}"
    assert len(refused.value.request_id) == 32


def test_it_reads_code_and_message_of_an_error(house, tenant):
    from huaweicloudsdkcore.exceptions.exceptions import (
        ClientRequestException,
        ServerResponseException,
    )
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest, RunImageSynchronizeRequestInfo

    client = sdk_client(house, tenant)

    with pytest.raises(ClientRequestException) as wrong:
        client.list_registry_images(ListRegistryImagesRequest(limit=201))
    shared = RunImageSynchronizeRequestInfo(image_type="shared_image")
    with pytest.raises(ClientRequestException) as unconfigured:
        client.run_image_synchronize(synchronize_request(body=shared))
    with pytest.raises(ClientRequestException) as ungranted:
        client.run_image_synchronize(synchronize_request(enterprise_project_id="other"))
    house.synchroniser.failure = StoreUnavailableError("gone")
    with pytest.raises(ServerResponseException) as down:
        client.run_image_synchronize(synchronize_request())

    assert (wrong.value.status_code, wrong.value.error_code) == (400, "HSS.0001")
    assert wrong.value.error_msg == "limit: must be an integer from 1 to 200"
    assert unconfigured.value.error_code == "HSS.0011"
    assert "wharfinger swr configure" in unconfigured.value.error_msg
    assert ungranted.value.error_code == "HSS.0013"
    assert (down.value.status_code, down.value.error_code) == (503, "HSS.0041")


def test_a_client_without_a_project_is_told_what_is_missing(house, tenant):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkhss.v5 import HssClient

    credentials = BasicCredentials(tenant.credential.access_key, tenant.credential.secret_key)
    client = HssClient.new_builder().with_credentials(credentials)

    with pytest.raises(ClientRequestException) as refused:
        client.with_endpoint(house.url).build().run_image_synchronize(synchronize_request())

    assert refused.value.error_code == "HSS.0001"
    assert "{project_id}" in refused.value.error_msg


def test_keystoneauth_calls_with_a_token(house, tenant):
    from keystoneauth1 import session
    from keystoneauth1.token_endpoint import Token

    auth = Token(endpoint=house.url, token=tenant.token)
    with requests.Session() as transport:
        caller = session.Session(auth=auth, session=transport)
        answer = caller.post(
            f"{house.url}/v5/{tenant.id}/image/synchronize", json={"image_type": "private_image"}
        )

    assert answer.status_code == 200
    assert answer.json()["error_description"] == "success"
    assert answer.headers["X-Wharfinger-Task-Id"] == TASK_ID
