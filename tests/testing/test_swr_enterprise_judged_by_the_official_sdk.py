"""The upstream's SWR enterprise edition, read by the SDK that the cloud's customers use."""

from __future__ import annotations

import pytest

from wharfinger.testing.content import DOCKER_INDEX, image
from wharfinger.testing.model import World
from wharfinger.testing.upstream import Upstream

swr = pytest.importorskip("huaweicloudsdkswr.v2")


@pytest.fixture
def world():
    world = World()
    content = world.instance("prod").content
    content.push("team/api", "v1", size=1_000_003)
    content.push("team/api", "v2", platforms=("linux/amd64", "linux/arm64/v8"), size=2_000_003)
    content.move("team/api", "v1")
    content.push("team/a/b", "nested")
    content.create_repository("other/empty")
    world.instance("test", version="25.3.0")
    world.instance("foreign", account="partner")
    return world


@pytest.fixture
def prod(world):
    return world.instance("prod")


@pytest.fixture
def upstream(world):
    with Upstream(world).running_in_thread() as upstream:
        yield upstream


@pytest.fixture
def client(upstream):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials

    key = upstream.key
    credentials = BasicCredentials(key.access_key, key.secret_key, upstream.world.home.project_id)
    builder = swr.SwrClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(upstream.url).build()


def refusal(call):
    from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException

    with pytest.raises(ServiceResponseException) as caught:
        call()
    return caught.value


def unfilled(model, *, but=()):
    empty = {name for name in model.openapi_types if getattr(model, name) is None}
    return sorted(empty - set(but))


# --- instances ---------------------------------------------------------------------------------


def test_an_account_sees_its_own_instances_with_every_field(client, prod):
    answer = client.list_instance(swr.ListInstanceRequest(offset=0, limit=100))

    assert answer.total == 2
    assert [one.name for one in answer.instances] == ["prod", "test"]
    first = answer.instances[0]
    assert unfilled(first) == []
    assert (first.id, first.version, first.status) == (prod.id, "25.6.7", "Running")
    assert first.created_at.endswith("+08:00")
    assert first.expires_at == "0001-01-01T00:00:00Z"


def test_one_instance_is_the_row_of_the_list(client, prod):
    listed = client.list_instance(swr.ListInstanceRequest()).instances[0]

    shown = client.show_instance(swr.ShowInstanceRequest(instance_id=prod.id))

    assert {name: getattr(shown, name) for name in listed.openapi_types} == {
        name: getattr(listed, name) for name in listed.openapi_types
    }


def test_instances_can_be_asked_for_by_status(client):
    answer = client.list_instance(swr.ListInstanceRequest(status="Creating"))

    assert (answer.total, answer.instances) == (0, [])


def test_an_instance_of_somebody_else_is_not_there(client, world):
    foreign = world.instance("foreign", account="partner")

    error = refusal(lambda: client.show_instance(swr.ShowInstanceRequest(instance_id=foreign.id)))

    assert error.status_code == 404
    assert error.error_code.startswith("SVCSTG.SWR.404")


def test_the_statistics_have_every_field(client, prod):
    answer = client.list_instance_statistics(swr.ListInstanceStatisticsRequest(instance_id=prod.id))

    assert unfilled(answer) == []
    assert (answer.total_namespace_count, answer.total_image_count) == (2, 3)


# --- namespaces and repositories ---------------------------------------------------------------


def test_namespaces_write_their_truth_as_text(client, prod):
    answer = client.list_instance_namespaces(
        swr.ListInstanceNamespacesRequest(instance_id=prod.id, offset=0, limit=100)
    )

    assert answer.total == 2
    team = answer.namespaces[0]
    assert unfilled(team, but=["cve_allowlist"]) == []
    assert (team.name, team.repo_count, team.metadata.public) == ("team", 2, "false")
    shown = client.show_instance_namespace(
        swr.ShowInstanceNamespaceRequest(instance_id=prod.id, namespace_name="team")
    )
    assert shown.namespace_id == team.namespace_id


def test_repositories_come_newest_first_and_whole(client, prod):
    answer = client.list_instance_repositories(
        swr.ListInstanceRepositoriesRequest(instance_id=prod.id, offset=0, limit=100)
    )

    assert answer.total == 3
    assert [one.name for one in answer.repositories] == ["empty", "a/b", "api"]
    api = answer.repositories[2]
    assert unfilled(api) == []
    # The first v1 has lost its tag and is kept all the same.
    assert (api.namespace_name, api.tag_count, api.artifact_count) == ("team", 2, 3)


def test_repositories_can_be_sorted_and_narrowed_to_a_namespace(client, prod):
    oldest_first = client.list_instance_repositories(
        swr.ListInstanceRepositoriesRequest(
            instance_id=prod.id, order_column="created_at", order_type="asc"
        )
    )
    namespace = oldest_first.repositories[0].namespace_id
    by_id = client.list_instance_repositories(
        swr.ListInstanceRepositoriesRequest(instance_id=prod.id, namespace_id=namespace)
    )
    by_name = client.list_namespace_repositories(
        swr.ListNamespaceRepositoriesRequest(instance_id=prod.id, namespace_name="team")
    )

    assert [one.name for one in oldest_first.repositories] == ["api", "a/b", "empty"]
    assert [one.name for one in by_id.repositories] == ["a/b", "api"]
    assert by_name.repositories == by_id.repositories


def test_a_slash_in_a_name_is_given_encoded_and_travels_encoded_twice(client, prod, upstream):
    shown = client.show_instance_repository(
        swr.ShowInstanceRepositoryRequest(
            instance_id=prod.id, namespace_name="team", repository_name="a%2Fb"
        )
    )

    assert shown.name == "a/b"
    assert upstream.log[-1].path.endswith("/team/repositories/a%252Fb")


def test_a_slash_that_is_not_encoded_finds_nothing(client, prod):
    error = refusal(
        lambda: client.show_instance_repository(
            swr.ShowInstanceRepositoryRequest(
                instance_id=prod.id, namespace_name="team", repository_name="a/b"
            )
        )
    )

    assert error.status_code == 404
    assert error.error_code == "APIGW.0101"


def test_the_repositories_of_all_instances_have_a_list_of_their_own(client, world, prod):
    world.instance("test", version="25.3.0").content.push("x/y", "v1")

    first = client.list_all_instance_repositories(swr.ListAllInstanceRepositoriesRequest(limit=2))
    rest = client.list_all_instance_repositories(
        swr.ListAllInstanceRepositoriesRequest(limit=2, marker=first.page_info.next_marker)
    )

    assert rest.page_info.next_marker is None
    assert len(first.repositories) == len(rest.repositories) == 2
    assert {one.instance_name for one in first.repositories + rest.repositories} == {
        "prod",
        "test",
    }
    assert unfilled(first.repositories[0]) == []


# --- artifacts ---------------------------------------------------------------------------------


def artifacts_of(client, prod, repository="api", **wishes):
    return client.list_instance_artifacts(
        swr.ListInstanceArtifactsRequest(
            instance_id=prod.id, namespace_name="team", repository_name=repository, **wishes
        )
    )


def test_artifacts_come_with_their_tags_or_without_any(client, prod):
    answer = artifacts_of(client, prod, offset=0, limit=100)

    assert answer.total == 3
    assert [[tag.name for tag in one.tags or []] for one in answer.artifacts] == [
        ["v1"],
        ["v2"],
        [],
    ]
    tagged, index, untagged = answer.artifacts
    assert unfilled(tagged) == unfilled(index) == []
    assert unfilled(untagged) == ["tags"]
    assert unfilled(tagged.tags[0]) == []
    assert index.manifest_media_type == DOCKER_INDEX
    assert index.size == 4_000_006
    assert tagged.digest == prod.content.tag("team/api", "v1").content.digest


def test_artifacts_can_be_asked_for_by_type_and_by_part_of_a_tag(client, prod):
    assert [one.tags[0].name for one in artifacts_of(client, prod, tags="2").artifacts] == ["v2"]
    assert artifacts_of(client, prod, type="CHART").total == 0


def test_one_artifact_is_the_row_of_the_list(client, prod):
    listed = artifacts_of(client, prod).artifacts[1]

    shown = client.show_instance_artifact(
        swr.ShowInstanceArtifactRequest(
            instance_id=prod.id,
            namespace_name="team",
            repository_name="api",
            reference=listed.digest,
        )
    )

    assert (shown.id, shown.digest, shown.tags) == (listed.id, listed.digest, listed.tags)


def test_what_is_attached_to_an_artifact_is_listed_with_it_alone(client, prod):
    digest = prod.content.tag("team/api", "v1").content.digest
    signature = prod.content.attach("team/api", digest)

    answer = client.list_instance_accessories(
        swr.ListInstanceAccessoriesRequest(
            instance_id=prod.id, namespace_name="team", repository_name="api", reference=digest
        )
    )

    assert answer.total == 1
    assert unfilled(answer.accessories[0]) == []
    assert (answer.accessories[0].digest, answer.accessories[0].type) == (
        signature.digest,
        "signature.cosign",
    )
    assert artifacts_of(client, prod).total == 3


def test_tags_have_a_list_of_their_own_without_the_project_in_its_path(client, prod, upstream):
    answer = client.list_instance_tags(
        swr.ListInstanceTagsRequest(
            instance_id=prod.id,
            namespace_name="team",
            repository_name="a%2Fb",
            is_accessory=False,
        )
    )

    assert answer.total == 1
    assert unfilled(answer.tags[0]) == []
    assert answer.tags[0].digest == prod.content.tag("team/a/b", "nested").content.digest
    assert upstream.log[-1].path.startswith(f"/v2/instances/{prod.id}/namespaces/")


def test_a_whole_instance_is_read_by_marker(client, prod):
    found, marker = [], 1
    while marker is not None:
        answer = client.list_instance_all_artifacts(
            swr.ListInstanceAllArtifactsRequest(instance_id=prod.id, marker=marker, limit=3)
        )
        found += answer.artifacts
        marker = answer.next_marker

    assert len(found) == 4
    assert {one.digest for one in found} == {digest for _, _, digest in prod.content.artifacts()}
    assert unfilled(found[0], but=["tags"]) == []


def test_an_older_instance_cannot_be_read_in_one_go(client, world):
    old = world.instance("test", version="25.3.0")

    error = refusal(
        lambda: client.list_instance_all_artifacts(
            swr.ListInstanceAllArtifactsRequest(instance_id=old.id)
        )
    )

    assert error.status_code == 404


# --- pages -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wishes", "code"),
    [
        ({"offset": 0, "limit": 101}, "SVCSTG.SWR.4000056"),
        ({"offset": 0, "limit": 0}, "SVCSTG.SWR.4000056"),
        ({"offset": 5, "limit": 10}, "SVCSTG.SWR.4001025"),
        ({"limit": 10}, "SVCSTG.SWR.4001025"),
        ({"offset": 10}, "SVCSTG.SWR.4001025"),
    ],
)
def test_a_page_of_more_than_a_hundred_or_off_its_grid_is_refused(client, prod, wishes, code):
    error = refusal(lambda: artifacts_of(client, prod, **wishes))

    assert (error.status_code, error.error_code) == (400, code)


def test_without_a_wish_a_page_has_ten_rows(client, prod):
    for number in range(12):
        prod.content.push("team/many", f"v{number}")

    answer = artifacts_of(client, prod, "many")

    assert (answer.total, len(answer.artifacts)) == (12, 10)


# --- changes -----------------------------------------------------------------------------------


def test_a_deleted_tag_leaves_its_artifact_and_a_deleted_artifact_takes_its_tags(client, prod):
    name = {"instance_id": prod.id, "namespace_name": "team", "repository_name": "api"}
    digest = prod.content.tag("team/api", "v2").content.digest

    client.delete_instance_tag(swr.DeleteInstanceTagRequest(tag_name="v1", **name))
    left = artifacts_of(client, prod)
    client.delete_instance_artifact(swr.DeleteInstanceArtifactRequest(reference=digest, **name))

    assert [len(one.tags or []) for one in left.artifacts] == [0, 1, 0]
    assert artifacts_of(client, prod).total == 2
    assert prod.content.repository("team/api").tags == {}


def test_content_pushed_again_under_another_tag_is_one_artifact(client, prod):
    content = image("same", created=prod.content.clock.now())
    prod.content.push("team/twice", "one", content=content)
    prod.content.push("team/twice", "two", content=content)

    answer = artifacts_of(client, prod, "twice")

    assert [[tag.name for tag in one.tags] for one in answer.artifacts] == [["one", "two"]]
