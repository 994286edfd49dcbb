"""The stages on which the kinds are tried."""

import base64
import contextlib

from wharfinger.domain.model import RegistryCredential
from wharfinger.testing.faults import Answer
from wharfinger.testing.gitlab import GitlabBehaviour, GitlabUpstream
from wharfinger.testing.harbor import ADMINISTRATOR, HarborUpstream
from wharfinger.testing.jfrog import JfrogBehaviour, JfrogUpstream
from wharfinger.testing.model import World
from wharfinger.testing.oci import OciBehaviour, OciUpstream
from wharfinger.testing.source_suite import Stage
from wharfinger.testing.upstream import Upstream


def signed_by(key):
    return RegistryCredential(kind="access_key", identity=key.access_key, secret=key.secret_key)


@contextlib.asynccontextmanager
async def swr_stage(*, shared=False, api="v2", credential=None):
    world = World()
    async with Upstream(world) as upstream:
        owner = "partner" if shared else "acme"

        def push(path, tag):
            placed = world.push(path, tag, account=owner)
            if shared and "acme" not in world.repository(path).shares:
                world.share(path, "acme")
            return placed

        yield Stage(
            server=upstream,
            credential=credential or signed_by(upstream.key),
            push=push,
            expected=lambda: world.images(owner),
            repositories=r"/manage/shared-repositories" if shared else r"/manage/repos\?",
            tags=r"/tags\?",
            options={"api": api},
            secrets=(upstream.key.secret_key, "Signature="),
        )


@contextlib.asynccontextmanager
async def enterprise_stage(*, credential=None):
    world = World()
    instance = world.instance("prod")
    async with Upstream(world) as upstream:
        yield Stage(
            server=upstream,
            credential=credential or signed_by(upstream.key),
            push=instance.content.push,
            expected=instance.content.artifacts,
            repositories=r"/repositories\?",
            tags=r"/artifacts\?",
            options={"instance_id": instance.id, "project_id": world.home.project_id},
            secrets=(upstream.key.secret_key, "Signature="),
        )


class OciRegistry(OciUpstream):
    """The bundled registry, with manifests and blobs besides that no world could hold."""

    def __init__(self, **behaviour):
        super().__init__(behaviour=OciBehaviour(**behaviour))
        self._extra = {}

    def add(self, raw, digest, media_type):
        headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
        self._extra[digest] = Answer(status=200, body=raw, headers=headers)

    def respond(self, asked):
        reference = asked.path.rpartition("/")[2]
        return self._extra.get(reference) or super().respond(asked)

    def basic(self):
        pair = f"{self.behaviour.username}:{self.behaviour.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    def user(self, password=None):
        return RegistryCredential(
            kind="basic",
            identity=self.behaviour.username,
            secret=password or self.behaviour.password,
        )


@contextlib.asynccontextmanager
async def oci_stage(**behaviour):
    async with OciRegistry(**behaviour) as registry:
        guarded = registry.behaviour.auth != "none"
        yield Stage(
            server=registry,
            credential=registry.user() if guarded else RegistryCredential(kind="none"),
            push=registry.world.push,
            expected=registry.world.images,
            repositories="/v2/_catalog",
            tags="/tags/list",
            challenged=1 if guarded else 0,
            secrets=(registry.behaviour.password, registry.basic().split()[1], "Bearer "),
        )


def known_to(harbor, name=ADMINISTRATOR):
    account = harbor.accounts[name]
    return RegistryCredential(kind="basic", identity=account.name, secret=account.password)


@contextlib.asynccontextmanager
async def harbor_stage(*projects):
    """Read over the list of everything, or project by project."""
    async with HarborUpstream() as harbor:
        for project in projects:
            harbor.world.namespace(project)
        credential = known_to(harbor)
        pair = base64.b64encode(f"{credential.identity}:{credential.secret}".encode()).decode()
        yield Stage(
            server=harbor,
            credential=credential,
            push=harbor.push,
            expected=harbor.world.images,
            repositories=r"/repositories\?",
            tags=r"/artifacts\?",
            options={"projects": projects},
            secrets=(credential.secret, pair, "Bearer "),
        )


@contextlib.asynccontextmanager
async def gitlab_stage(*groups, **behaviour):
    """Read group by group, of which one is there and empty."""
    async with GitlabUpstream(World(), GitlabBehaviour(**behaviour)) as upstream:
        for group in groups:
            upstream.world.namespace(group)
        reader = reader_of(upstream)
        pair = base64.b64encode(f"{reader.identity}:{reader.secret}".encode()).decode()
        yield Stage(
            server=upstream,
            credential=reader,
            push=upstream.world.push,
            expected=upstream.world.images,
            repositories=r"/registry/repositories\?",
            tags="/tags/list",
            options={"groups": groups},
            secrets=(upstream.gitlab.token, pair, "Bearer "),
        )


def reader_of(upstream):
    own = upstream.behaviour
    return RegistryCredential(kind="basic", identity=own.username, secret=own.password)


@contextlib.asynccontextmanager
async def jfrog_stage(*, listing, **behaviour):
    """Artifactory with an empty repository besides, which is listed before any other."""
    async with JfrogUpstream(World(), JfrogBehaviour(**behaviour)) as upstream:
        upstream.world.namespace("a-empty-local")
        reader = reader_of(upstream)
        pair = base64.b64encode(f"{reader.identity}:{reader.secret}".encode()).decode()
        by_aql = listing == "aql"
        yield Stage(
            server=upstream,
            credential=reader,
            push=upstream.world.push,
            expected=upstream.world.images,
            repositories=r"/api/repositories|/search/aql" if by_aql else r"/api/repos|/_catalog",
            tags=r"/search/aql" if by_aql else r"/tags/list",
            options={"listing": listing},
            # Artifactory's own repositories, and what there is to be read of the empty one.
            challenged=2 if by_aql else 1,
            secrets=(reader.secret, pair),
        )
