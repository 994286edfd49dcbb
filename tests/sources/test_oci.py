"""Kind Other against everything that registries get wrong."""

import asyncio
import dataclasses
import json
from base64 import b64encode
from urllib.parse import quote

import pytest
from real_registry import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST, digest_of
from stages import OciRegistry

from wharfinger.domain.errors import (
    ForbiddenError,
    InvalidParameterError,
    ListLoopError,
    ListMovedError,
    MalformedAnswerError,
    MissingError,
    SourceError,
    ThrottledError,
    UnauthorisedError,
    UnexpectedAnswerError,
    UnsupportedError,
)
from wharfinger.domain.model import RegistryCredential, RegistryRef, RepositoryRef, TagRef
from wharfinger.domain.ports import Request
from wharfinger.sources import check_registry
from wharfinger.sources._addresses import AddressPolicy
from wharfinger.sources._http import AioTransport
from wharfinger.sources._oci_login import parse_challenges
from wharfinger.testing.faults import Answer, json_answer
from wharfinger.testing.source_suite import inventory_of, opened, path_of, repositories_of, tags_of

APP = RepositoryRef(namespace="team", name="app")
CATALOG = "/v2/_catalog"
TAGS = "/tags/list"


@pytest.fixture
async def registry():
    async with OciRegistry() as registry:
        yield registry


@pytest.fixture
async def guarded():
    async with OciRegistry(auth="bearer") as registry:
        yield registry


def reading(registry, *, credential=None, attempts=1, address=None, **options):
    ref = RegistryRef(
        id="r1",
        project_id="p1",
        name="scripted",
        kind="Other",
        address=address or registry.url,
        options=options,
        allow_private_networks=True,
    )
    nobody = RegistryCredential(kind="none")
    return opened(ref, credential or nobody, attempts=attempts)


def fill(registry, repositories, *, tags=1):
    for number in range(repositories):
        for version in range(tags):
            registry.world.push(f"team/app-{number:03}", f"v{version}")


async def listed(registry, **options):
    async with reading(registry, **options) as source:
        return [path_of(row) for row in await repositories_of(source)]


# --- links ---------------------------------------------------------------------------------------


def linked(registry, link):
    """Serve two pages, the second behind whatever ``link`` makes of the first one's URL."""

    def page(asked):
        if "second" in asked.target:
            return json_answer({"repositories": ["team/second"]})
        return json_answer({"repositories": ["team/first"]}, Link=link(registry.url))

    registry.faults.instead(CATALOG, page)


@pytest.mark.parametrize(
    "link",
    [
        lambda url: '</v2/_catalog?second=1&n=9>; rel="next"',
        lambda url: f'<{url}/v2/_catalog?second=1>; rel="next"',
        lambda url: f'<{url.replace("http:", "https:")}/v2/_catalog?second=1>; rel="next"',
        lambda url: '/v2/_catalog?second=1; rel="next"',
        lambda url: "<?second=1>; rel=next",
        lambda url: '<_catalog?second=1>; title="a, b; c"; rel="next"',
        lambda url: '</v2/_catalog>; rel="first", </v2/_catalog?second=1>; rel="last next"',
        lambda url: '</v2/_catalog?second=a,b;c&last=%2F%2B>; REL="NEXT"',
        lambda url: '</v2/_catalog?second=1#fragment>; rel="next"',
    ],
)
async def test_h05_a_link_is_followed_however_it_is_written(registry, link):
    linked(registry, link)

    assert await listed(registry) == ["team/first", "team/second"]


@pytest.mark.parametrize(
    "link",
    [
        lambda url: '<http://169.254.169.254/v2/_catalog?second=1>; rel="next"',
        lambda url: '<//evil.example/v2/_catalog?second=1>; rel="next"',
        lambda url: f'<{url[:-1]}/v2/_catalog?second=1>; rel="next"',
        lambda url: f'<{url.replace("//", "//u:p@")}/v2/_catalog?second=1>; rel="next"',
        lambda url: '<file:///etc/passwd?second=1>; rel="next"',
        lambda url: '<http://[::1/second>; rel="next"',
    ],
)
async def test_h05_a_link_to_another_host_is_refused(registry, link):
    linked(registry, link)

    with pytest.raises(UnexpectedAnswerError, match="Link"):
        await listed(registry)

    assert len(registry.log) == 1


@pytest.mark.parametrize(
    "style",
    ["relative", "absolute", "bare", "unquoted", "several", "cursor", "query-only", "absent"],
)
async def test_h05_every_style_of_link_leads_through_all_pages(registry, style):
    registry.behaviour.link = style
    fill(registry, 7, tags=5)

    async with reading(registry, page_size=3) as source:
        assert await inventory_of(source) == registry.world.images()


@pytest.mark.parametrize("style", ["loop", "cycle"])
async def test_h07_links_that_lead_back_are_a_loop(registry, style):
    registry.behaviour.link = style
    fill(registry, 7)

    with pytest.raises(ListLoopError):
        await listed(registry, page_size=3)

    assert len(registry.log) <= 4


@pytest.mark.parametrize(
    "behaviour", [{"page_cap": 2}, {"refuse_n_above": 100}, {"ignore_n": True}, {"shuffled": True}]
)
async def test_h08_a_registry_with_its_own_idea_of_pages_is_read_completely(behaviour):
    async with OciRegistry(default_page=3, **behaviour) as registry:
        fill(registry, 7, tags=5)

        for page_size in (1, 4, 1000):
            async with reading(registry, page_size=page_size) as source:
                assert await inventory_of(source) == registry.world.images()


@pytest.mark.parametrize("accept", ["strict", "schema1"])
async def test_h16_the_types_are_named_in_a_short_header(accept):
    async with OciRegistry(accept=accept, accept_limit=256) as registry:
        registry.world.push("team/app", "v1")
        registry.world.push("team/app", "v2", platforms=("linux/amd64", "linux/arm64"))

        async with reading(registry) as source:
            assert await inventory_of(source) == registry.world.images()
            tags = await tags_of(source, APP)
            images = [image async for image in source.describe(APP, tags)]

    assert [image.is_index for image in images] == [False, True]


async def test_h04_a_link_is_never_rebuilt(registry):
    linked(registry, lambda url: '</v2/_catalog?opaque=Zm9v%3D%3D&second=%2f>; rel="next"')

    await listed(registry)

    assert registry.log[1].target == "/v2/_catalog?opaque=Zm9v%3D%3D&second=%2f"


@pytest.mark.parametrize("listing", [CATALOG, TAGS])
async def test_h06_a_full_page_without_link_is_probed_and_read_on(registry, listing):
    fill(registry, 7 if listing == CATALOG else 1, tags=1 if listing == CATALOG else 7)
    registry.faults.change(
        listing, lambda _, answer: Answer(status=200, body=answer.body, headers={})
    )

    async with reading(registry, page_size=3) as source:
        found = await inventory_of(source)

    assert found == registry.world.images()


async def test_h08_a_registry_that_ignores_the_page_size_is_complete_at_once(registry):
    registry.faults.answer(CATALOG, 200, body={"repositories": ["b", "a", "c", "d"]})

    assert await listed(registry, page_size=2) == ["b", "a", "c", "d"]


async def test_h07_a_link_to_a_page_already_read_is_a_loop(registry):
    registry.faults.answer(
        CATALOG,
        200,
        body={"repositories": ["a"]},
        headers={"Link": '</v2/_catalog?n=1000>; rel="next"'},
    )

    with pytest.raises(ListLoopError):
        await listed(registry)


@pytest.mark.parametrize("names", [["a"], []])
async def test_h07_links_that_never_end_are_a_loop(registry, names):
    def page(asked):
        link = f'</v2/_catalog?page={len(registry.log)}>; rel="next"'
        return json_answer({"repositories": names}, Link=link)

    registry.faults.instead(CATALOG, page)

    with pytest.raises(ListLoopError):
        await listed(registry)

    assert len(registry.log) < 200


async def test_empty_pages_with_a_link_are_read_over(registry):
    linked(registry, lambda url: '</v2/_catalog?second=1>; rel="next"')
    registry.faults.change(
        r"catalog\?n=",
        lambda _, answer: Answer(
            status=200, body=b'{"repositories": null}', headers=answer.headers
        ),
    )

    assert await listed(registry) == ["team/second"]


# --- what is in the answers ----------------------------------------------------------------------


@pytest.mark.parametrize(
    "body", [{"name": "team/app", "tags": None}, {"name": "team/app"}, {"tags": []}]
)
async def test_h10_no_tags_are_written_in_many_ways(registry, body):
    registry.faults.answer(TAGS, 200, body=body)

    async with reading(registry) as source:
        assert await tags_of(source, APP) == []


async def test_h10_no_repositories_may_be_null(registry):
    registry.faults.answer(CATALOG, 200, body={"repositories": None})

    assert await listed(registry) == []


async def test_h11_an_unknown_repository_is_missing_not_empty(registry):
    registry.behaviour.ghosts = {"team/ghost"}

    async with reading(registry) as source:
        (ghost,) = await repositories_of(source)
        with pytest.raises(MissingError):
            await tags_of(source, ghost)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (401, UnauthorisedError),
        (403, ForbiddenError),
        (404, UnsupportedError),
        (405, UnsupportedError),
        (501, UnsupportedError),
    ],
)
async def test_h14_without_a_catalog_the_way_out_is_told(registry, status, error):
    fill(registry, 1)
    registry.faults.answer(CATALOG, status)

    with pytest.raises(error, match="--repository"):
        await listed(registry)
    async with reading(registry, repositories=["team/app-000"]) as source:
        assert await inventory_of(source) == registry.world.images()


async def test_h12_throttling_may_come_as_400(registry):
    body = {"__type": "ThrottlingException", "message": "Rate exceeded"}
    registry.faults.answer(CATALOG, 400, body=body)

    with pytest.raises(ThrottledError):
        await listed(registry)


@pytest.mark.parametrize("name", ["", "/app", "team/"])
async def test_a_name_that_is_none_is_an_error(registry, name):
    registry.faults.answer(CATALOG, 200, body={"repositories": [name]})

    with pytest.raises(UnexpectedAnswerError):
        await listed(registry)


# --- digests -------------------------------------------------------------------------------------


async def test_a_digest_is_asked_by_head_alone(registry):
    fill(registry, 1, tags=5)

    async with reading(registry) as source:
        found = await inventory_of(source)

    assert found == registry.world.images()
    assert len(registry.requests("/manifests/", method="HEAD")) == 5
    assert not registry.requests("/manifests/", method="GET")
    assert len(registry.requests("/manifests/")[0].headers["accept"]) < 256


@pytest.mark.parametrize("status", [400, 404, 405, 501, 200])
async def test_h15_without_head_the_raw_bytes_tell(registry, status):
    fill(registry, 1, tags=3)
    registry.faults.answer("/manifests/", status, method="HEAD")

    async with reading(registry) as source:
        assert await inventory_of(source) == registry.world.images()


async def test_h15_a_registry_that_knows_no_head_is_not_asked_again(registry):
    fill(registry, 5)
    registry.faults.answer("/manifests/", 405, method="HEAD")

    async with reading(registry) as source:
        await inventory_of(source)

    assert len(registry.requests("/manifests/", method="HEAD")) == 1


async def test_h17_a_tag_that_goes_meanwhile_sends_the_listing_back(registry):
    fill(registry, 1, tags=3)
    registry.faults.after(TAGS, lambda: registry.world.delete_tag("team/app-000", "v1"))

    async with reading(registry, repositories=["team/app-000"]) as source:
        with pytest.raises(ListMovedError, match="v1"):
            await inventory_of(source)


async def test_one_failing_tag_ends_the_others(registry):
    fill(registry, 1, tags=50)
    registry.faults.answer("/manifests/v7$", 403, method="HEAD")

    async with reading(registry) as source:
        (repository,) = await repositories_of(source)
        with pytest.raises(ForbiddenError):
            await tags_of(source, repository)
        await asyncio.sleep(0)
        left = [task for task in asyncio.all_tasks() if "_each" in repr(task.get_coro())]

    assert not left


# --- images --------------------------------------------------------------------------------------


async def images_of(registry, *digests, path="team/app", **options):
    namespace, _, name = path.partition("/")
    repository = RepositoryRef(namespace=namespace, name=name)
    tags = [TagRef(tag=f"t{number}", digest=digest) for number, digest in enumerate(digests)]
    async with reading(registry, **options) as source:
        return [image async for image in source.describe(repository, tags)]


def add(registry, manifest):
    raw = json.dumps(manifest, indent=2).encode()
    registry.add(raw, digest_of(raw), manifest.get("mediaType", "application/json"))
    return digest_of(raw)


async def test_a_manifest_whose_bytes_are_others_is_malformed(registry):
    placed = registry.world.push("team/app", "v1")
    registry.faults.change(
        "/manifests/sha256",
        lambda _, answer: Answer(status=200, body=answer.body + b" ", headers=answer.headers),
    )

    with pytest.raises(MalformedAnswerError, match="digest"):
        await images_of(registry, placed.content.digest)


async def test_h19_a_digest_is_described_once_whatever_names_it(registry):
    placed = registry.world.push("team/app", "v1")

    images = await images_of(registry, *[placed.content.digest] * 200)

    assert len(images) == 1
    assert len(registry.requests("/manifests/")) == 1
    assert len(registry.requests("/blobs/")) == 1


async def test_h18_a_child_of_two_indexes_is_asked_for_once(registry):
    child = registry.world.push("team/app", "child").content
    entry = {"digest": child.digest, "mediaType": child.media_type, "size": 1}
    indexes = [
        add(
            registry,
            {
                "schemaVersion": 2,
                "mediaType": OCI_INDEX,
                "manifests": [{**entry, "platform": {"os": "linux", "architecture": arch}}],
            },
        )
        for arch in ("amd64", "arm64")
    ]

    images = await images_of(registry, *indexes)

    assert [image.size for image in images] == [child.size] * 2
    assert len(registry.requests(f"/manifests/{child.digest}")) == 1


async def test_h18_a_child_that_was_never_pushed_is_a_platform_all_the_same(registry):
    registry.world.push("team/app", "v1")
    gone = "sha256:" + "0" * 64
    index = add(
        registry,
        {
            "schemaVersion": 2,
            "mediaType": OCI_INDEX,
            "manifests": [
                {"digest": gone, "size": 1, "platform": {"os": "linux", "architecture": "s390x"}}
            ],
        },
    )

    (image,) = await images_of(registry, index)

    assert [(p.digest, p.architecture, p.size) for p in image.platforms] == [(gone, "s390x", 0)]


async def test_an_image_whose_config_is_gone_only_lacks_its_time(registry):
    placed = registry.world.push("team/app", "v1")
    registry.faults.answer("/blobs/", 404)

    (image,) = await images_of(registry, placed.content.digest)

    assert image.size == placed.content.size
    assert image.created_at is None


async def test_h17_a_digest_that_goes_meanwhile_sends_the_listing_back(registry):
    registry.world.push("team/app", "v1")

    with pytest.raises(ListMovedError):
        await images_of(registry, "sha256:" + "1" * 64)


async def test_a_manifest_of_the_first_schema_is_an_image_without_size(registry):
    past = json.dumps({"created": "2015-01-02T03:04:05Z"})
    raw = json.dumps(
        {"schemaVersion": 1, "name": "team/app", "history": [{"v1Compatibility": past}]}
    ).encode()
    digest = "sha256:" + "2" * 64  # Of the payload without its signature, which only it knows.
    registry.add(raw, digest, "application/vnd.docker.distribution.manifest.v1+prettyjws")

    (image,) = await images_of(registry, digest)

    assert (image.digest, image.image_id, image.size) == (digest, digest, 0)
    assert image.created_at.year == 2015


async def test_h22_sizes_beyond_two_gigabytes_are_kept(registry):
    layer = {"digest": "sha256:" + "3" * 64, "size": 5 * 2**31}
    layer["mediaType"] = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    digest = add(registry, {"schemaVersion": 2, "mediaType": DOCKER_MANIFEST, "layers": [layer]})

    (image,) = await images_of(registry, digest)

    assert image.size == 5 * 2**31


async def test_an_artifact_of_its_own_type_says_so_and_has_no_config_read(registry):
    manifest = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.example.sbom",
        "config": {"digest": "sha256:" + "4" * 64, "size": 2},
    }

    (image,) = await images_of(registry, add(registry, manifest))

    assert image.artifact_type == "application/vnd.example.sbom"
    assert not registry.requests("/blobs/")


# --- logging in ----------------------------------------------------------------------------------


async def test_a_token_is_fetched_once_for_each_scope(guarded):
    guarded.behaviour.realm_query = "account=x"
    fill(guarded, 3, tags=4)

    async with reading(guarded, credential=guarded.user()) as source:
        assert await inventory_of(source) == guarded.world.images()

    scopes = [line.query for line in guarded.requests("/token")]
    assert len(scopes) == len(set(scopes)) == 4
    assert "account=x&service=registry.example&scope=repository:team/app-000:pull" in scopes
    # Only the very first request did not know yet how to ask.
    assert [line.status for line in guarded.requests("/v2/")].count(401) == 1


async def test_h13_a_token_that_ends_meanwhile_is_renewed_once_for_all(guarded):
    fill(guarded, 1, tags=20)

    async with reading(guarded, credential=guarded.user()) as source:
        (repository,) = await repositories_of(source)
        await tags_of(source, repository)
        guarded.expire_tokens()
        before = len(guarded.requests("/token"))
        await tags_of(source, repository)

    assert len(guarded.requests("/token")) == before + 1


async def test_h13_without_a_lifetime_a_token_lives_for_a_minute(guarded):
    guarded.behaviour.expires_in = None
    fill(guarded, 1, tags=3)

    async with reading(guarded, credential=guarded.user()) as source:
        await inventory_of(source)

    assert len(guarded.requests("/token")) == 2


async def test_a_wrong_password_is_tried_once_only(guarded):
    fill(guarded, 1)

    async with reading(guarded, credential=guarded.user("wrong-password")) as source:
        results = await asyncio.gather(
            *(tags_of(source, APP) for _ in range(10)), return_exceptions=True
        )

    assert [type(result) for result in results] == [UnauthorisedError] * 10
    assert len(guarded.requests("/token")) == 1
    assert "wrong-password" not in repr(results)


async def test_h32_a_password_is_not_sent_to_another_host_without_tls(guarded):
    guarded.behaviour.realm = "http://elsewhere.example/token"

    with pytest.raises(UnexpectedAnswerError, match="without TLS"):
        await listed(guarded, credential=guarded.user())


@pytest.mark.parametrize("realm", ["http://169.254.169.254/token", "nonsense", "file:///x"])
async def test_h32_a_realm_is_reached_under_the_same_checks(guarded, realm):
    guarded.behaviour.realm = realm

    with pytest.raises(SourceError):
        await listed(guarded)

    assert not guarded.requests("/token")


async def test_h13_credentials_do_not_follow_a_redirect_to_another_host(registry):
    async with OciRegistry(auth="basic") as guarded:
        fill(guarded, 1)
        fill(registry, 1)
        target = f"{registry.url}{CATALOG}"
        guarded.faults.answer(CATALOG, 307, headers={"Location": target}, skip=1)

        found = await listed(guarded, credential=guarded.user())

    assert found == ["team/app-000"]
    assert [line.headers.get("authorization") for line in registry.log] == [None]


async def test_a_challenge_from_where_we_were_redirected_to_gets_no_password(registry):
    async with OciRegistry(auth="basic") as thief:
        target = f"{thief.url}{CATALOG}"
        registry.faults.answer(CATALOG, 307, headers={"Location": target})

        with pytest.raises(UnauthorisedError):
            await listed(registry, credential=thief.user())

    assert [line.headers.get("authorization") for line in thief.log] == [None]


async def a_token(registry, scope):
    transport = AioTransport(AddressPolicy(allow_private=True))
    url, headers = f"{registry.url}/token?scope={scope}", {"Authorization": registry.basic()}
    answer = await transport.send(Request(method="GET", url=url, headers=headers))
    await transport.aclose()
    return json.loads(answer.body)["token"]


async def test_a_given_token_is_sent_as_bearer(guarded):
    fill(guarded, 1)
    token = await a_token(guarded, "registry:catalog:*")

    found = await listed(guarded, credential=RegistryCredential(kind="token", secret=token))

    assert found == ["team/app-000"]


@pytest.mark.parametrize(
    ("header", "schemes"),
    [
        ('Bearer realm="https://a/t?x=1,2",service="s",scope="a:b:pull,push"', {"bearer"}),
        ('Basic realm="x", Bearer realm="https://a/t?x=1,2", service=s', {"basic", "bearer"}),
        ("Basic", {"basic"}),
        ('Negotiate, Basic realm="a \\" b"', {"basic"}),
        ("", set()),
    ],
)
def test_challenges_are_read_however_many_there_are(header, schemes):
    found = parse_challenges(header)

    assert set(found) == schemes
    if "bearer" in found:
        assert found["bearer"].realm == "https://a/t?x=1,2"
        assert found["bearer"].service == "s"


# --- settings ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["Team/app", "team//app", "/app", "team/app:v1", "a" * 256, ""])
def test_a_name_that_no_registry_could_have_is_refused(name):
    with pytest.raises(InvalidParameterError, match="repositor"):
        check_registry(
            "Other", "https://r.example", {"repositories": [name]}, RegistryCredential(kind="none")
        )


async def test_a_registry_below_a_path_is_read_there():
    async with OciRegistry() as registry:
        fill(registry, 1)
        respond = registry.respond
        registry.respond = lambda asked: respond(
            dataclasses.replace(asked, path=asked.path.removeprefix("/docker"))
        )

        async with reading(registry, address=f"{registry.url}/docker/") as source:
            assert await inventory_of(source) == registry.world.images()


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.parametrize("secret", ["tulip", 'tu"lip\\', "tu/lip&="])
async def test_a_secret_that_a_registry_repeats_is_left_out(secret):
    """However short it is, and however the registry spells it."""
    user = RegistryCredential(kind="basic", identity="u", secret=secret)
    sent = b64encode(f"u:{secret}".encode()).decode()
    spelt = [secret, json.dumps(secret), quote(secret, safe=""), sent]
    body = json.dumps({"errors": [{"code": "DENIED", "message": f"no: {' '.join(spelt)} end"}]})
    async with OciRegistry(auth="basic") as registry:
        registry.faults.answer(CATALOG, 403, body=body.encode())

        with pytest.raises(ForbiddenError, match=r"no: .* end") as caught:
            await listed(registry, credential=user)

    assert not [one for one in (*spelt, "lip") if one in str(caught.value)]
