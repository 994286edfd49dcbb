from __future__ import annotations

import datetime as dt

import pytest

from wharfinger.testing.content import digest_of
from wharfinger.testing.model import World, made_up_world
from wharfinger.testing.upstream import Upstream

swr = pytest.importorskip("huaweicloudsdkswr.v2")

PARTNER = "northwind"


@pytest.fixture
def world():
    world = World()
    world.push("team/api", "v1", size=1_000_003)
    world.push("team/api", "v2", platforms=("linux/amd64", "linux/arm64/v8"), size=2_000_003)
    world.push("team/a/b", "nested")
    world.create_repository("team/empty", category="linux", is_public=True)
    world.push("lent/tool", "v9", account=PARTNER)
    world.push("lent/old", "v1", account=PARTNER)
    world.push("lent/secret", "v1", account=PARTNER)
    world.share("lent/tool", "acme")
    world.share("lent/old", "acme", expires=dt.datetime(2020, 1, 1, tzinfo=dt.UTC))
    world.share("team/api", PARTNER)
    return world


@pytest.fixture
def upstream(world):
    with Upstream(world).running_in_thread() as upstream:
        yield upstream


@pytest.fixture
def client(upstream):
    return sdk_client(upstream)


def sdk_client(upstream, access_key=None, secret_key=None):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials

    key = upstream.key
    credentials = BasicCredentials(
        access_key or key.access_key,
        secret_key or key.secret_key,
        upstream.world.home.project_id,
    )
    builder = swr.SwrClient.new_builder().with_credentials(credentials)
    return builder.with_endpoint(upstream.url).build()


def refusal(call):
    from huaweicloudsdkcore.exceptions.exceptions import ServiceResponseException

    with pytest.raises(ServiceResponseException) as caught:
        call()
    return caught.value


def filled(model, *, but=()):
    empty = [name for name in model.openapi_types if getattr(model, name) is None]
    return sorted(set(empty) - set(but)) == []


def test_a_repository_row_comes_out_with_every_field(client, world):
    answer = client.list_repos_details(swr.ListReposDetailsRequest(name="api"))

    (row,) = answer.body
    assert filled(row, but={"logo"})
    assert (row.namespace, row.name, row.tags) == ("team", "api", ["v1", "v2"])
    assert (row.num_images, row.size, row.total_range) == (2, 5_000_009, 1)
    assert row.updated_at == "2024-03-04T08:00:21.545761002Z"
    assert row.path == "swr.cn-north-4.myhuaweicloud.com/team/api"


def test_the_total_stands_in_the_header_only_when_offset_and_limit_are_given(client):
    paged = client.list_repos_details(swr.ListReposDetailsRequest(limit="2", offset="1"))
    plain = client.list_repos_details(swr.ListReposDetailsRequest())

    assert paged.content_range == "1-2/3"
    assert plain.content_range is None
    assert [row.total_range for row in plain.body] == [3, 3, 3]


def test_the_filter_wins_over_single_parameters(client):
    wish = swr.ListReposDetailsRequest(
        limit="3",
        offset="0",
        filter="namespace::team|limit::1|offset::1|order_column::name|order_type::asc",
    )

    answer = client.list_repos_details(wish)

    assert [row.name for row in answer.body] == ["api"]
    assert answer.content_range == "1-1/3"


def test_a_loop_over_pages_reads_every_repository_once():
    with Upstream(made_up_world(25, 1)).running_in_thread() as upstream:
        client = sdk_client(upstream)
        names, offset = [], 0
        while page := client.list_repos_details(
            swr.ListReposDetailsRequest(limit="10", offset=str(offset), order_column="name")
        ).body:
            names += [row.name for row in page]
            offset += 10

    assert names == [f"service-{number:05}" for number in range(25)]
    assert len(upstream.log) == 4


@pytest.mark.parametrize(
    ("column", "direction", "first"),
    [("name", "desc", "empty"), ("tag_count", "desc", "api"), ("updated_time", "asc", "api")],
)
def test_order_columns_sort(client, column, direction, first):
    wish = swr.ListReposDetailsRequest(order_column=column, order_type=direction)

    assert client.list_repos_details(wish).body[0].name == first


def test_a_tag_row_comes_out_with_every_field(client, world):
    answer = client.list_repository_tags(
        swr.ListRepositoryTagsRequest(namespace="team", repository="api", limit="10", offset="0")
    )

    rows = {row.tag: row for row in answer.body}
    assert set(rows) == {"v1", "v2"}
    assert all(filled(row, but={"deleted"}) for row in rows.values())
    assert (rows["v1"].tag_type, rows["v2"].tag_type) == (0, 1)
    assert (rows["v1"].size, rows["v2"].size) == (1_000_003, 4_000_006)
    assert rows["v1"].digest == world.tag("team/api", "v1").content.digest
    assert answer.content_range == "0-2/2"


def test_the_manifest_in_a_row_is_what_the_digest_names(client):
    answer = client.list_repository_tags(
        swr.ListRepositoryTagsRequest(namespace="team", repository="api")
    )

    assert all(digest_of(row.manifest.encode()) == row.digest for row in answer.body)


def test_a_slash_in_a_name_travels_as_a_dollar(client, upstream):
    wish = swr.ListRepositoryTagsRequest(namespace="team", repository="a$b")

    answer = client.list_repository_tags(wish)

    assert [row.tag for row in answer.body] == ["nested"]
    assert "/repos/a%24b/tags" in upstream.log[-1].path


def test_a_slash_in_a_path_is_a_route_nobody_published(client, upstream):
    wish = swr.ListRepositoryTagsRequest(namespace="team", repository="a/b")

    refused = refusal(lambda: client.list_repository_tags(wish))

    assert (refused.status_code, refused.error_code) == (404, "APIGW.0101")
    assert "/repos/a%2Fb/tags" in upstream.log[-1].path


def test_shared_repositories_need_a_side(client):
    refused = refusal(
        lambda: client.list_shared_repos_details(swr.ListSharedReposDetailsRequest(center="all"))
    )

    assert (refused.status_code, refused.error_code) == (400, "SVCSTG.SWR.4001025")


def test_what_others_lend_carries_its_owner_and_whether_it_is_valid(client):
    wish = swr.ListSharedReposDetailsRequest(center="thirdparty", order_column="name")

    rows = client.list_shared_repos_details(wish).body

    assert [(row.name, row.domain_name, row.status) for row in rows] == [
        ("old", PARTNER, False),
        ("tool", PARTNER, True),
    ]
    assert all(row.total_range is None for row in rows)


def test_what_one_lends_oneself_is_the_other_side(client):
    wish = swr.ListSharedReposDetailsRequest(center="self")

    assert [row.name for row in client.list_shared_repos_details(wish).body] == ["api"]


def test_a_share_opens_the_tags_and_only_while_it_is_valid(client):
    def tags(repository):
        wish = swr.ListRepositoryTagsRequest(namespace="lent", repository=repository)
        return client.list_repository_tags(wish)

    lent = tags("tool")
    expired, hidden = refusal(lambda: tags("old")), refusal(lambda: tags("secret"))

    assert [row.tag for row in lent.body] == ["v9"]
    assert {expired.error_code, hidden.error_code} == {"SVCSTG.SWR.4039002"}


def test_namespaces_and_summary_come_out_filled(client):
    namespaces = client.list_namespaces(swr.ListNamespacesRequest()).namespaces
    summary = client.show_repository(swr.ShowRepositoryRequest(namespace="team", repository="api"))

    assert [(n.name, n.auth, n.creator_name) for n in namespaces] == [("team", 7, "acme")]
    assert filled(summary)
    assert (summary.num_images, summary.ns_id) == (2, namespaces[0].id)


def test_a_tag_and_a_repository_can_be_deleted(client, world):
    client.delete_repo_tag(swr.DeleteRepoTagRequest(namespace="team", repository="api", tag="v1"))
    client.delete_repo(swr.DeleteRepoRequest(namespace="team", repository="a$b"))

    assert [tag.name for tag in world.tags("team/api")] == ["v2"]
    assert "team/a/b" not in world.repositories


def test_v3_markers_end_by_being_absent(client):
    pages, marker = [], None
    while True:
        answer = client.list_repo_details(swr.ListRepoDetailsRequest(limit=2, marker=marker))
        pages.append([row.name for row in answer.repos])
        marker = answer.next_marker
        if marker is None:
            break

    assert pages == [["api", "a/b"], ["empty"]]
    assert all(filled(row) for row in answer.repos)


def test_v3_shared_repositories_have_markers_too(client):
    wish = swr.ListSharedRepoDetailsRequest(shared_by="thirdparty", limit=1)

    first = client.list_shared_repo_details(wish)
    wish.marker = first.next_marker
    second = client.list_shared_repo_details(wish)

    assert [(r.name, r.status) for r in first.repos + second.repos] == [
        ("tool", True),
        ("old", False),
    ]
    assert second.next_marker is None


@pytest.mark.parametrize("order", [{}, {"order_column": "tag"}, {"order_type": "asc"}])
def test_v3_tags_page_by_marker_in_any_order(order, world, client):
    for number in range(5):
        world.push("team/many", f"t{number}")
    wish = swr.ListRepositoryTagRequest(namespace="team", repository="many", limit=2, **order)

    found, more = [], True
    while more:
        answer = client.list_repository_tag(wish)
        found += [row.tag for row in answer.tags]
        more, wish.marker = answer.has_more, answer.next_marker

    assert sorted(found) == ["t0", "t1", "t2", "t3", "t4"]
    assert found[0] == ("t0" if order else "t4")
    assert answer.next_marker is None


def test_v3_sends_the_manifest_only_when_asked(client):
    wish = swr.ListRepositoryTagRequest(namespace="team", repository="api", tag="v1")
    without = client.list_repository_tag(wish).tags[0]
    wish.with_manifest = True

    (row,) = client.list_repository_tag(wish).tags

    assert without.manifest == ""
    assert digest_of(row.manifest.encode()) == row.digest


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        ({"limit": "1001", "offset": "0"}, "SVCSTG.SWR.4000056"),
        ({"limit": "0", "offset": "0"}, "SVCSTG.SWR.4000056"),
        ({"limit": "ten", "offset": "0"}, "SVCSTG.SWR.4000056"),
        ({"limit": "10", "offset": "-1"}, "SVCSTG.SWR.4001025"),
        ({"limit": "10"}, "SVCSTG.SWR.4001025"),
        ({"offset": "10"}, "SVCSTG.SWR.4001025"),
        ({"order_column": "colour"}, "SVCSTG.SWR.4001025"),
        ({"filter": "limit=3"}, "SVCSTG.SWR.4001025"),
    ],
)
def test_parameters_out_of_range_get_the_documented_code(client, wish, code):
    refused = refusal(lambda: client.list_repos_details(swr.ListReposDetailsRequest(**wish)))

    assert (refused.status_code, refused.error_code) == (400, code)


@pytest.mark.parametrize(
    ("namespace", "repository", "status", "code"),
    [
        ("team", "gone", 404, "SVCSTG.SWR.4040113"),
        ("nobody", "api", 404, "SVCSTG.SWR.4041061"),
        ("Team", "api", 400, "SVCSTG.SWR.4001028"),
        ("team", "x" * 129, 400, "SVCSTG.SWR.4001029"),
    ],
)
def test_unknown_names_get_the_documented_code(client, namespace, repository, status, code):
    wish = swr.ListRepositoryTagsRequest(namespace=namespace, repository=repository)

    refused = refusal(lambda: client.list_repository_tags(wish))

    assert (refused.status_code, refused.error_code) == (status, code)


@pytest.mark.parametrize(
    ("generation", "code"), [(1, "404"), (2, "404"), (3, "SVCSTG.SWR.4040113")]
)
def test_the_sdk_reads_only_the_newest_of_the_error_shapes(upstream, client, generation, code):
    upstream.swr.error_generation = generation
    wish = swr.ShowRepositoryRequest(namespace="team", repository="gone")

    refused = refusal(lambda: client.show_repository(wish))

    assert refused.error_code == code
    assert "SVCSTG.SWR.4040113" in refused.error_msg or generation == 3


@pytest.mark.parametrize(
    ("access_key", "secret_key", "detail"),
    [
        ("AKNOBODY", None, "ak not exist"),
        (None, "wrong", "verify aksk signature fail"),
    ],
)
def test_a_wrong_key_is_refused_by_the_gateway(upstream, access_key, secret_key, detail):
    client = sdk_client(upstream, access_key, secret_key)

    refused = refusal(lambda: client.list_namespaces(swr.ListNamespacesRequest()))

    assert (refused.status_code, refused.error_code) == (401, "APIGW.0301")
    assert detail in refused.error_msg
    assert refused.request_id


def test_a_token_works_beside_a_dummy_authorization(upstream, client):
    client.preset_headers = {"X-Auth-Token": upstream.token(), "Authorization": "x"}

    assert client.list_namespaces(swr.ListNamespacesRequest()).namespaces


def test_a_token_of_another_account_sees_that_account(upstream, client):
    client.preset_headers = {"X-Auth-Token": upstream.token(PARTNER), "Authorization": "x"}

    rows = client.list_repos_details(swr.ListReposDetailsRequest(order_column="name")).body

    assert [row.name for row in rows] == ["old", "secret", "tool"]


@pytest.mark.parametrize(("lifetime_s", "code"), [(-1, "APIGW.0307"), (60, None)])
def test_a_token_lives_as_long_as_it_was_told(upstream, client, lifetime_s, code):
    token = upstream.token(lifetime_s=lifetime_s)
    client.preset_headers = {"X-Auth-Token": token, "Authorization": "x"}

    if code is None:
        assert client.list_namespaces(swr.ListNamespacesRequest()).namespaces
    else:
        refused = refusal(lambda: client.list_namespaces(swr.ListNamespacesRequest()))
        assert refused.error_code == code


def test_throttling_is_seen_by_the_client_as_the_service_words_it(upstream, client):
    upstream.swr_throttle("/v2/manage/namespaces", times=1)
    upstream.faults.throttle("/v2/manage/namespaces", times=1)

    by_swr = refusal(lambda: client.list_namespaces(swr.ListNamespacesRequest()))
    by_gateway = refusal(lambda: client.list_namespaces(swr.ListNamespacesRequest()))

    assert (by_swr.status_code, by_swr.error_code) == (403, "SVCSTG.SWR.4031032")
    # The SDK loses the body of a 429 that it retried and gave up.
    assert (by_gateway.status_code, by_gateway.error_code) == (429, "429")
    assert client.list_namespaces(swr.ListNamespacesRequest()).namespaces


def test_a_name_with_blanks_and_signs_is_signed_and_found(client, upstream):
    wish = swr.ListReposDetailsRequest(name="镜像 ~*+&=%25'()!")

    assert client.list_repos_details(wish).raw_content == b"[]"
    assert "%20" in upstream.log[-1].query
