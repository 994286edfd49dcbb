"""Harbor, synchronised into the store."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest
from stages import known_to

from http_port import serving
from wharfinger.domain.model import RunOutcome
from wharfinger.store.registries import NewRegistry, RegistryChange
from wharfinger.testing.content import index
from wharfinger.testing.harbor import HarborUpstream
from wharfinger.testing.model import made_up_world

LIST = r"/repositories\?"
PLATFORMS = ("linux/amd64", "linux/arm64/v8")
KINDS = """
    SELECT coalesce(i.tag, ''), i.artifact_type, i.size > 0, i.is_index
    FROM image i JOIN repository r ON r.id = i.repository_id
    WHERE r.namespace = 'team' AND r.name = 'deep/er/app' AND i.retired_at IS NULL
    ORDER BY 1, 2
"""


@pytest.fixture
async def harbor():
    """Six repositories of four tags, the newest first."""
    async with HarborUpstream(made_up_world(6, 4)) as running:
        yield running


async def add(yard, harbor, *, account="admin", **options) -> str:
    new = NewRegistry(
        name="harbour",
        kind="Harbor",
        address=harbor.url,
        options=options,
        allow_private_networks=True,
    )
    return await yard.add(new, known_to(harbor, account))


def listed(harbor):
    """What a complete list holds: every tag, and what has none."""
    owned = harbor.world.owned()
    without = {(r.path, None, digest) for r in owned for digest in r.untagged}
    return harbor.world.images() | without


def row_of(path) -> str:
    namespace, name = path.split("/", 1)
    return f"/projects/{namespace}/repositories/{name}/artifacts"


# --- what is stored -------------------------------------------------------------------------------


@pytest.mark.hard_case("H20", guard="wharfinger.sources.harbor:_place")
async def test_artifacts_of_every_sort_are_stored_as_what_they_are(yard, harbor):
    path = "team/deep/er/app"
    harbor.push(path, "v1")
    signed = harbor.push(path, "v1")
    harbor.attach(signed.digest, "signature.cosign")
    manifests = index("multi", created=harbor.world.clock.now(), platforms=PLATFORMS)
    harbor.push(path, "multi", content=manifests)
    chart = harbor.push(path, "chart")
    helm = "application/vnd.cncf.helm.config.v1+json"
    harbor.declare(chart.digest, "CHART", helm)
    await add(yard, harbor)

    run = await yard.sync()

    assert (run.outcome, run.reasons) == (RunOutcome.COMPLETE, ())
    assert yard.owner.execute(KINDS).fetchall() == [
        ("", "", True, False),
        ("", "signature.cosign", True, False),
        ("chart", helm, True, False),
        ("multi", "", True, True),
        ("v1", "", True, False),
    ]
    assert yard.stored() >= listed(harbor)
    assert yard.value("SELECT count(*) FROM platform") == 2
    assert harbor.requests(r"/repositories/deep%252Fer%252Fapp/artifacts\?")


async def test_an_unchanged_harbor_costs_one_request_and_writes_nothing(yard, harbor):
    await add(yard, harbor)
    first = await yard.sync()
    before = yard.owner.execute("SELECT xmin, ctid, id FROM image ORDER BY id").fetchall()

    quick = await yard.sync()
    full = await yard.sync(full=True)

    # The list, a page of artifacts of each repository, and a manifest for each digest.
    assert (first.outcome, first.requests) == (RunOutcome.COMPLETE, 1 + 6 + 24)
    assert first.added == 24
    assert (quick.outcome, quick.requests) == (RunOutcome.COMPLETE, 1)
    assert (full.outcome, full.requests) == (RunOutcome.COMPLETE, 1 + 6)
    assert yard.owner.execute("SELECT xmin, ctid, id FROM image ORDER BY id").fetchall() == before


async def test_the_doctor_foretells_what_a_first_sync_costs(yard, harbor):
    await add(yard, harbor, page_size=5)

    report = await yard.house.doctor.examine(yard.caller, "harbour")
    run = await yard.sync()

    found = {finding.check: finding for finding in report.findings}
    assert report.ok
    assert found["catalog"].facts == {"repositories": 6, "is_exact": True}
    assert found["paging"].facts["api"] == "v2.0 repositories"
    assert found["size"].facts["images"] == run.images == 24
    assert found["first_sync"].facts["requests"] == run.requests == 2 + 6 + 24


async def test_only_what_changed_is_read_and_what_is_gone_is_retired(yard, harbor):
    await add(yard, harbor)
    await yard.sync()
    changed, emptied, gone = (r.path for r in harbor.world.owned()[:3])
    harbor.push(changed, "v9")
    moved = harbor.push(changed, "v1.0")
    for tag in harbor.world.tags(emptied)[:2]:
        harbor.delete_artifact(emptied, tag.content.digest)
    harbor.world.delete_repository(gone)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == listed(harbor)
    assert (changed, "v1.0", moved.digest) in yard.stored()
    # v9, and what v1.0 was before; v1.0; two artifacts and four of the repository.
    assert (run.added, run.moved, run.retired) == (2, 1, 6)
    assert len(harbor.requests(f"^/api.*{row_of(harbor.world.owned()[4].path)}")) == 1


async def test_a_deleted_tag_that_shows_in_no_row_is_found_by_a_full_pass_and_remembered(
    yard, harbor
):
    await add(yard, harbor)
    await yard.sync()
    path = harbor.world.owned()[0].path
    gone = harbor.delete_tag(path, "v1.1")

    quick = await yard.sync()
    overlooked = yard.stored()
    full = await yard.sync(full=True)

    assert (quick.outcome, quick.retired) == (RunOutcome.COMPLETE, 0)
    assert (path, "v1.1", gone.digest) in overlooked
    assert (full.outcome, full.retired, full.added) == (RunOutcome.COMPLETE, 1, 1)
    assert yard.stored() == listed(harbor)
    assert (path, None, gone.digest) in yard.stored()

    await yard.sync()  # The fingerprint still stands: nothing but a lie explains the change.
    assert yard.value("SELECT fingerprint_lies FROM registry") == 1

    harbor.delete_tag(path, "v1.2")
    after = await yard.sync()

    assert (after.outcome, after.retired) == (RunOutcome.COMPLETE, 1)
    assert yard.stored() == listed(harbor)


async def test_an_untagged_artifact_that_gets_a_tag_again_is_that_tag(yard, harbor):
    await add(yard, harbor)
    path = harbor.world.owned()[0].path
    content = harbor.delete_tag(path, "v1.1")
    await yard.sync()
    harbor.push(path, "again", content=content)

    run = await yard.sync()

    assert (run.outcome, run.retired, run.added) == (RunOutcome.COMPLETE, 1, 1)
    assert yard.stored() == listed(harbor)


# --- bad days -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "reason"),
    [
        (403, "FORBIDDEN", "forbidden"),
        (404, "NOT_FOUND", "missing"),
        (500, "UNKNOWN", "upstream_failure"),
    ],
)
async def test_one_repository_that_cannot_be_read_costs_no_other(
    yard, harbor, status, code, reason
):
    await add(yard, harbor)
    await yard.sync()
    broken = harbor.world.owned()[3].path
    kept = {row for row in yard.stored() if row[0] == broken}
    for repository in harbor.world.owned():
        harbor.push(repository.path, "v9")
    body = {"errors": [{"code": code, "message": "bad day"}]}
    harbor.faults.answer(row_of(broken), status, body=body)

    run = await yard.sync()

    assert run.outcome is RunOutcome.PARTIAL
    assert [(r.code, r.repository) for r in run.reasons] == [(reason, broken)]
    assert yard.stored() == {row for row in listed(harbor) if row[0] != broken} | kept
    assert run.retired == 0


@pytest.mark.parametrize("bad", ["break", "empty", "refuse", "total"])
async def test_a_bad_list_of_repositories_retires_nothing(yard, harbor, bad):
    await add(yard, harbor, page_size=4)
    await yard.sync()
    before = yard.stored()
    harbor.world.delete_repository(harbor.world.owned()[0].path)
    faults = {
        "break": lambda: harbor.faults.answer(LIST, 500, skip=1),
        "empty": lambda: harbor.faults.empty_list(LIST),
        "refuse": lambda: harbor.faults.answer(LIST, 403),
        "total": lambda: harbor.faults.rows(LIST, lambda rows: rows[:2]),
    }
    faults[bad]()

    run = await yard.sync()

    assert run.outcome is not RunOutcome.COMPLETE
    assert run.reasons
    assert run.retired == 0
    assert yard.stored() == before


@pytest.mark.hard_case("H2", guard="wharfinger.sources.harbor:_Walk.proves_itself")
async def test_a_deletion_that_shifts_a_repository_out_of_sight_makes_the_list_begin_again(
    yard, harbor
):
    # An old Harbor sorts by age: a deletion shifts what is not yet read, and a push hides it.
    harbor.harbor.order = "oldest"
    await add(yard, harbor, page_size=2)
    await yard.sync()

    def replace():
        harbor.world.delete_repository(harbor.world.owned()[0].path)
        harbor.push("team/new", "v1")

    harbor.faults.before(LIST, replace, skip=1, times=1)
    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == listed(harbor)
    assert run.retired == 4


@pytest.mark.hard_case("H14", guard="wharfinger.sources.harbor:_check_all")
async def test_a_closed_list_of_all_is_told_and_naming_the_projects_opens_it(yard, harbor):
    harbor.push("team/app", "v1")
    harbor.harbor.global_list = "forbidden"
    robot = harbor.robot("inventory", "bench-01", "team")
    await add(yard, harbor, account=robot.name)

    closed = await yard.sync()
    change = RegistryChange(options={"projects": ["bench-01", "team"]})
    await yard.house.registries.change(yard.caller, "harbour", change, None)
    opened = await yard.sync()

    assert (closed.outcome, [r.code for r in closed.reasons]) == (RunOutcome.FAILED, ["forbidden"])
    assert "--option projects=" in closed.reasons[0].message
    assert opened.outcome is RunOutcome.COMPLETE
    assert {path for path, _, _ in yard.stored()} == {"bench-01/service-00001", "team/app"}


async def test_a_project_that_is_no_longer_named_is_hidden_and_not_retired(yard, harbor):
    await add(yard, harbor)
    await yard.sync()
    change = RegistryChange(options={"projects": ["bench-01"]})

    hidden = await yard.house.registries.change(yard.caller, "harbour", change, None)
    run = await yard.sync()

    assert hidden == 20
    assert (run.outcome, run.retired) == (RunOutcome.COMPLETE, 0)
    assert {kind for kind, _ in yard.events()} == {"added", "hidden"}


# --- what HSS tells of it -------------------------------------------------------------------------


@pytest.mark.filterwarnings("ignore:Method .* is deprecated:DeprecationWarning")
async def test_the_official_sdk_lists_harbor_and_its_images_by_type(yard, harbor):
    content = harbor.push("team/deep/er/app", "v1")
    harbor.attach(content.digest, "signature.cosign")
    manifests = index("multi", created=harbor.world.clock.now(), platforms=PLATFORMS)
    harbor.push("team/deep/er/app", "multi", content=manifests)
    await add(yard, harbor)
    await yard.sync()

    async with serving(yard.house) as url:
        client = await sdk_client(yard, url)
        told = await asyncio.to_thread(everything, client)

    (registry,), (other,) = told["Harbor"], [told["Other"]]
    assert (registry.registry_name, registry.registry_type) == ("harbour", "Harbor")
    assert (registry.status, registry.registry_addr) == ("success", harbor.host)
    assert (registry.api_version, registry.images_num) == ("V2", 26)
    assert other == []
    assert told["harbor"].total_num == 2
    assert told["jfrog"].total_num == 0
    images = {row.image_version: row for row in told["harbor"].data_list}
    assert {(row.image_type, row.registry_type) for row in images.values()} == {
        ("harbor", "Harbor")
    }
    assert (images["v1"].namespace, images["v1"].image_name) == ("team", "deep/er/app")
    assert (images["v1"].image_digest, images["v1"].image_id) == (content.digest, content.image_id)
    assert [p.image_digest for p in images["multi"].association_images] == [
        child.digest for child in manifests.children
    ]


async def sdk_client(yard, url):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkhss.v5 import HssClient

    key = await yard.house.callers.create_credential(yard.caller.project_id)
    credentials = BasicCredentials(key.access_key, key.secret_key, yard.caller.project_id)
    return HssClient.new_builder().with_credentials(credentials).with_endpoint(url).build()


def everything(client):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest, ListRegistryRequest

    registries = {
        kind: client.list_registry(ListRegistryRequest(registry_type=kind)).data_list
        for kind in ("Harbor", "Other")
    }
    images = {
        kind: client.list_registry_images(
            ListRegistryImagesRequest(image_type=kind, namespace="team", limit=200)
        )
        for kind in ("harbor", "jfrog")
    }
    return registries | images


# --- webhooks -------------------------------------------------------------------------------------


@pytest.mark.hard_case("H30", guard="wharfinger.sources._harbor_notifications:_Event.path")
@pytest.mark.parametrize("cloud", [False, True])
async def test_a_webhook_shows_a_deleted_tag_that_no_row_shows(yard, harbor, cloud):
    await add(yard, harbor)
    await yard.sync()
    made = await yard.house.hints.make_token(yard.caller, "harbour")
    path = harbor.world.owned()[0].path
    harbor.delete_tag(path, "v1.1")
    # It names another tag than the one that is gone.
    body = harbor.hook(path, "DELETE_ARTIFACT", tag="some-other-tag", cloud=cloud)
    kind = "application/cloudevents+json" if cloud else "application/json"

    async with serving(yard.house) as url:
        forged = await post(url + made.path, body, kind, "Bearer forged")
        answer = await post(url + made.path, body, kind, f"Bearer {made.token}")
        await yard.quiet()

    assert (forged[0], answer) == (401, (200, {"repositories": 1, "ignored": 0}))
    assert yard.stored() == listed(harbor)
    assert ("retired", "v1.1") in yard.events()


async def post(url, body, kind, authorization):
    headers = {"Content-Type": kind, "Authorization": authorization}
    async with (
        aiohttp.ClientSession() as session,
        session.post(url, data=body, headers=headers) as answer,
    ):
        return answer.status, await answer.json()


async def test_a_webhook_of_a_project_that_is_not_read_is_ignored(yard, harbor):
    registry_id = await add(yard, harbor, projects=["bench-01"])
    made = await yard.house.hints.make_token(yard.caller, "harbour")
    body = harbor.hook("bench-02/service-00002")

    receipt = await yard.house.hints.receive(made.token, yard.caller.project_id, registry_id, body)

    assert (receipt.repositories, receipt.ignored) == (0, 1)


async def test_what_belongs_to_an_image_is_told_by_the_list_itself(yard, harbor):
    signed, bare = (harbor.push("team/app", tag) for tag in ("signed", "bare"))
    harbor.attach(signed.digest, "signature.notation")
    harbor.attach(bare.digest, "sbom.harbor")
    await add(yard, harbor)

    await yard.sync()
    before = kinds_by_tag(yard)
    harbor.attach(bare.digest, "signature.cosign")
    harbor.detach(signed.digest)
    await yard.sync(full=True)

    assert before == {"signed": ["signature"], "bare": ["sbom"]}
    assert kinds_by_tag(yard) == {"bare": ["sbom", "signature"]}
    assert harbor.requests("/accessories") == harbor.requests("/referrers/") == []


async def test_an_image_that_is_held_keeps_what_belongs_to_it(yard, harbor):
    signed = harbor.push("team/app", "signed")
    harbor.push("team/app", "other")
    harbor.attach(signed.digest, "signature.notation")
    await add(yard, harbor)
    await yard.sync()

    harbor.delete_artifact("team/app", signed.digest)
    # What the first listing under other settings lacks is held.
    await yard.house.registries.change(
        yard.caller, "harbour", RegistryChange(options={"page_size": 50})
    )
    held = await yard.sync(full=True)
    meanwhile = kinds_by_tag(yard)
    await yard.house.held.accept(yard.caller, "harbour", images=None)

    assert (held.outcome, meanwhile) == (RunOutcome.HELD, {"signed": ["signature"]})
    assert yard.value("SELECT count(*) FROM attachment") == 0


def kinds_by_tag(yard):
    rows = yard.owner.execute(
        """
        SELECT i.tag, array_agg(a.kind ORDER BY a.kind) FROM image i
        JOIN attachment a ON a.repository_id = i.repository_id AND a.subject = i.digest
        WHERE i.retired_at IS NULL AND i.tag IS NOT NULL GROUP BY 1
        """
    )
    return dict(rows.fetchall())
