"""Every kind runs the suite, and nothing that is a kind escapes it."""

import pkgutil
import tomllib
from pathlib import Path

import pytest
from stages import enterprise_stage, gitlab_stage, harbor_stage, jfrog_stage, oci_stage, swr_stage

import wharfinger.sources
from wharfinger.sources import KINDS
from wharfinger.testing.source_suite import SourceSuite

ROOT = Path(__file__).parents[2]


class TestSwrPrivate(SourceSuite):
    kind = "SwrPrivate"

    @pytest.fixture
    async def stage(self):
        async with swr_stage() as stage:
            yield stage


class TestSwrPrivateV3(SourceSuite):
    kind = "SwrPrivate"

    @pytest.fixture
    async def stage(self):
        async with swr_stage(api="v3") as stage:
            yield stage


class TestSwrShared(SourceSuite):
    kind = "SwrShared"

    @pytest.fixture
    async def stage(self):
        async with swr_stage(shared=True) as stage:
            yield stage


class TestSwrSharedV3(SourceSuite):
    kind = "SwrShared"

    @pytest.fixture
    async def stage(self):
        async with swr_stage(shared=True, api="v3") as stage:
            yield stage


class TestSwrEnterprise(SourceSuite):
    kind = "SwrEnterprise"

    @pytest.fixture
    async def stage(self):
        async with enterprise_stage() as stage:
            yield stage


class TestOther(SourceSuite):
    kind = "Other"

    @pytest.fixture
    async def stage(self):
        async with oci_stage() as stage:
            yield stage


class TestOtherBehindBasicAuth(SourceSuite):
    kind = "Other"

    @pytest.fixture
    async def stage(self):
        async with oci_stage(auth="basic") as stage:
            yield stage


class TestOtherBehindTokens(SourceSuite):
    kind = "Other"

    @pytest.fixture
    async def stage(self):
        async with oci_stage(auth="bearer") as stage:
            yield stage


class TestHarbor(SourceSuite):
    kind = "Harbor"

    @pytest.fixture
    async def stage(self):
        async with harbor_stage() as stage:
            yield stage


class TestHarborByProject(SourceSuite):
    kind = "Harbor"

    @pytest.fixture
    async def stage(self):
        async with harbor_stage("team", "other") as stage:
            yield stage


class TestJfrog(SourceSuite):
    kind = "Jfrog"

    @pytest.fixture
    async def stage(self):
        async with jfrog_stage(listing="aql") as stage:
            yield stage


class TestJfrogByDockersApi(SourceSuite):
    kind = "Jfrog"

    @pytest.fixture
    async def stage(self):
        async with jfrog_stage(listing="docker", default_page=3) as stage:
            yield stage


class TestGitlab(SourceSuite):
    kind = "Gitlab"

    @pytest.fixture
    async def stage(self):
        async with gitlab_stage("team", "other") as stage:
            yield stage


class TestGitlabBehindAProxy(SourceSuite):
    """Which drops the header fields that tell of further pages."""

    kind = "Gitlab"

    @pytest.fixture
    async def stage(self):
        async with gitlab_stage("team", "other", page_headers=False) as stage:
            yield stage


def test_every_kind_runs_the_suite():
    assert {suite.kind for suite in SourceSuite.__subclasses__()} == set(KINDS)


def test_no_kind_may_know_another():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    contracts = settings["tool"]["importlinter"]["contracts"]
    (independent,) = (one["modules"] for one in contracts if one["type"] == "independence")

    assert set(independent) == {place.partition(":")[0] for place in KINDS.values()}


def test_every_module_of_a_kind_is_registered():
    modules = {
        f"wharfinger.sources.{module.name}"
        for module in pkgutil.iter_modules(wharfinger.sources.__path__)
        if not module.name.startswith("_")
    }

    assert modules == {place.partition(":")[0] for place in KINDS.values()}
