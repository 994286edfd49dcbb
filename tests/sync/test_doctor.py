"""The doctor tries every step of a sync once, and what it foretells comes true."""

from __future__ import annotations

import asyncio
import datetime as dt
import socket
from email.utils import format_datetime

import pytest
from reaching import Authority

from wharfinger.domain.errors import NotFoundError
from wharfinger.domain.examination import Grade
from wharfinger.domain.model import RegistryCredential
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.faults import json_answer
from wharfinger.testing.model import made_up_world
from wharfinger.testing.oci import OciBehaviour, OciUpstream
from wharfinger.testing.upstream import Upstream

GOOD = {Grade.OK, Grade.NOTE}


async def examine(yard, name="swrprivate"):
    report = await yard.house.doctor.examine(yard.caller, name)
    return report, {finding.check: finding for finding in report.findings}


async def test_a_healthy_registry_passes_and_nothing_is_stored(yard, upstream):
    await yard.add_swr(upstream)

    report, found = await examine(yard)

    assert report.ok
    assert {finding.grade for finding in report.findings} <= GOOD
    assert report.requests == len(upstream.log)
    assert (yard.stored(), yard.registry_verdict()) == (set(), "never")
    assert yard.value("SELECT count(*) FROM run") == 0
    assert found["encryption"].grade is Grade.NOTE  # it is plain HTTP
    assert "127.0.0.1" in found["reach"].message


async def test_what_it_foretells_of_a_first_sync_comes_true(yard, upstream):
    await yard.add_swr(upstream)

    _, found = await examine(yard)
    run = await yard.sync()

    assert found["size"].facts["images"] == run.images == 60
    assert found["first_sync"].facts["requests"] == run.requests


async def test_it_foretells_the_requests_of_a_registry_that_must_be_asked_for_each_manifest(yard):
    async with OciUpstream(made_up_world(12, 5)) as registry:
        await yard.add_oci(registry)

        _, found = await examine(yard, "other")
        run = await yard.sync()

    assert found["size"].facts["images"] == run.images == 60
    foretold = found["first_sync"].facts["requests"]
    assert 0.7 < foretold / run.requests < 1.4


async def test_wrong_keys_are_told_from_a_closed_catalog(yard, upstream):
    wrong = RegistryCredential(kind="access_key", identity=upstream.key.access_key, secret="no")
    new = NewRegistry(
        name="wrong", kind="SwrPrivate", address=upstream.url, allow_private_networks=True
    )
    await yard.add(new, wrong)
    await yard.add_swr(upstream)

    report, keys = await examine(yard, "wrong")
    no = json_answer({"error_code": "SVCSTG.SWR.4030000", "error_msg": "no"}, status=403)
    upstream.faults.instead("/v2/manage/repos", lambda _: no)
    closed, catalog = await examine(yard)

    assert (report.ok, closed.ok) == (False, False)
    assert keys["authentication"].grade is Grade.FAILED
    assert keys["authentication"].facts["error_code"] == "unauthorised"
    assert "registry set" in keys["authentication"].advice
    assert keys["catalog"].grade is keys["size"].grade is Grade.SKIPPED
    assert catalog["authentication"].grade is Grade.OK
    assert catalog["catalog"].facts["error_code"] == "forbidden"


async def test_nobody_there_is_told_at_once_and_the_rest_is_left_out(yard, unused_tcp_port):
    new = NewRegistry(
        name="gone",
        kind="Other",
        address=f"http://127.0.0.1:{unused_tcp_port}",
        allow_private_networks=True,
    )
    await yard.add(new, RegistryCredential(kind="none"))

    report, found = await examine(yard, "gone")

    assert found["reach"].grade is Grade.FAILED
    assert str(unused_tcp_port) in found["reach"].message
    others = [f.grade for f in report.findings if f.check not in ("reach", "fingerprints")]
    assert set(others) == {Grade.SKIPPED}
    assert report.requests == 0


async def test_an_address_that_may_not_be_reached_is_not_even_connected_to(yard):
    async with OciUpstream(made_up_world(1, 1)) as registry:
        await yard.add_oci(registry, allow_private_networks=False)

        _, found = await examine(yard, "other")

        assert found["reach"].facts["error_code"] == "address_refused"
        assert registry.log == []


async def test_certificates_are_judged_as_a_sync_would_judge_them(yard):
    authority = Authority("company")
    registry = OciUpstream(made_up_world(1, 1))
    registry.tls = authority.server("127.0.0.1")
    async with registry:
        for name, ca_pem in (("stranger", None), ("friend", authority.pem)):
            new = NewRegistry(
                name=name,
                kind="Other",
                address=registry.url,
                allow_private_networks=True,
                ca_pem=ca_pem,
            )
            await yard.add(new, RegistryCredential(kind="none"))

        refused, stranger = await examine(yard, "stranger")
        accepted, friend = await examine(yard, "friend")

    assert (refused.ok, accepted.ok) == (False, True)
    assert (stranger["reach"].grade, stranger["encryption"].grade) == (Grade.OK, Grade.FAILED)
    assert stranger["catalog"].grade is Grade.SKIPPED
    # It ends within a day: a sync works today, and soon will not.
    assert friend["encryption"].grade is Grade.NOTE
    assert friend["encryption"].message.startswith("TLSv1.3, certificate of company, ends in ")


async def test_a_name_whose_first_address_leads_nowhere_is_reached_all_the_same(yard, monkeypatch):
    loop = asyncio.get_running_loop()

    async def two_addresses(_host, port, **_):
        # Nobody listens at the first one.
        stream = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")
        return [
            (socket.AF_INET6, *stream, ("::1", port, 0, 0)),
            (socket.AF_INET, *stream, ("127.0.0.1", port)),
        ]

    async with OciUpstream(made_up_world(1, 1)) as registry:
        await yard.add(
            NewRegistry(
                name="other",
                kind="Other",
                address=registry.url.replace("127.0.0.1", "localhost"),
                allow_private_networks=True,
            ),
            RegistryCredential(kind="none"),
        )
        with monkeypatch.context() as names:
            names.setattr(loop, "getaddrinfo", two_addresses)
            _, found = await examine(yard, "other")

    assert found["reach"].grade is Grade.OK
    assert found["reach"].facts["addresses"] == ["::1", "127.0.0.1"]


async def test_refusals_in_swrs_own_words_are_counted(yard, upstream):
    await yard.add_swr(upstream)
    slow = json_answer({"error_code": "SVCSTG.SWR.4031032", "error_msg": "slow"}, status=403)
    upstream.faults.instead("/v2/manage/repos", lambda _: slow, times=1)

    report, found = await examine(yard)

    assert report.ok
    assert (found["rate"].grade, found["rate"].facts["refused"]) == (Grade.NOTE, 1)


@pytest.mark.parametrize(("off", "grade"), [(0, Grade.OK), (120, Grade.NOTE), (1200, Grade.FAILED)])
async def test_a_clock_that_is_off_is_noted_and_fails_where_signatures_end(
    yard, upstream, off, grade
):
    await yard.add_swr(upstream)

    def later(_, answer):
        then = dt.datetime.now(dt.UTC) + dt.timedelta(seconds=off)
        return answer.with_headers(Date=format_datetime(then, usegmt=True))

    upstream.faults.change(".*", later)

    _, found = await examine(yard)

    assert found["clock"].grade is grade
    assert abs(found["clock"].facts["seconds"] - off) < 3


async def test_refusals_and_missing_digest_headers_are_seen(yard):
    async with OciUpstream(made_up_world(3, 2), OciBehaviour(digest_header=False)) as registry:
        await yard.add_oci(registry)
        registry.faults.throttle("/v2/.*/tags/list", retry_after=0, times=1)

        _, found = await examine(yard, "other")

    assert found["digests"].grade is Grade.NOTE
    assert found["rate"].grade is Grade.NOTE
    assert found["rate"].facts["refused"] == 1


async def test_a_registry_of_lies_is_known_for_them(yard, upstream):
    await yard.add_swr(upstream)
    yard.owner.execute("UPDATE registry SET fingerprint_lies = 3")

    _, found = await examine(yard)

    assert found["fingerprints"].grade is Grade.NOTE
    assert "3 changes" in found["fingerprints"].message


async def test_an_empty_registry_is_noted(yard):
    async with Upstream(made_up_world(0, 0)) as empty:
        await yard.add_swr(empty)

        report, found = await examine(yard)

    assert report.ok
    assert found["catalog"].grade is Grade.NOTE
    assert found["size"].facts["images"] == 0


async def test_an_unknown_registry_is_none(yard):
    with pytest.raises(NotFoundError):
        await yard.house.doctor.examine(yard.caller, "nowhere")
