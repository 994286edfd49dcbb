"""Names that do not fit a path, addresses that must not be reached, secrets that must not show."""

from __future__ import annotations

import socket

import pytest
from served import CATALOG, codes, fill

from wharfinger.domain.model import RegistryCredential, RunOutcome
from wharfinger.store.registries import NewRegistry
from wharfinger.testing.faults import Answer, Asked, json_answer
from yard import NOBODY

METADATA = "http://169.254.169.254"


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.hard_case("H20", guard="wharfinger.sources.swr:_Swr._tags")
async def test_swr_is_asked_for_a_dollar_where_the_name_has_a_slash(yard, upstream):
    for path in ("team/deep/er/app", "team/deep/er", "team/deep"):
        upstream.world.push(path, "v1")
    await yard.add_swr(upstream)

    run = await yard.sync()

    assert run.outcome is RunOutcome.COMPLETE
    assert yard.stored() == upstream.world.images()
    assert upstream.requests(r"/repos/deep%24er%24app/tags")


@pytest.mark.hard_case("H20", guard="wharfinger.sources._paths:split_path")
async def test_names_of_every_length_case_and_script_are_told_apart(yard, registry):
    paths = ["a/b", "a/b/c", "a/b/c/d", "team/" + "x" * 250]
    tags = ["v1", "V1", "t" * 128, "sha256-" + "a" * 64 + ".sig", "sha256-" + "a" * 64 + ".att"]
    for path in paths:
        for tag in [*tags, "版本", "é"]:
            registry.world.push(path, tag)
    await yard.add_oci(registry)

    first = await yard.sync()
    second = await yard.sync()

    assert first.outcome is RunOutcome.COMPLETE
    assert yard.stored() == registry.world.images()
    assert (second.added, second.moved, second.retired) == (0, 0, 0)


# --- addresses -----------------------------------------------------------------------------------


def at(address: str, *, private: bool = True) -> NewRegistry:
    return NewRegistry(name="other", kind="Other", address=address, allow_private_networks=private)


@pytest.mark.hard_case("H32", guard="wharfinger.sources._addresses:AddressPolicy.check")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"])
async def test_a_registry_inside_the_network_is_not_asked_unless_it_may(yard, registry, host):
    port = registry.url.rpartition(":")[2]
    await yard.add(at(f"http://{host}:{port}", private=False), NOBODY)

    run = await yard.sync(within_s=15)

    assert (run.outcome, codes(run)) == (RunOutcome.FAILED, ["address_refused"])
    assert yard.registry_verdict() == "never"
    assert registry.log == []


@pytest.mark.hard_case("H32", guard="wharfinger.sources._addresses:_never_unless_named")
async def test_no_registry_is_the_metadata_service(yard):
    await yard.add(at(METADATA), NOBODY)

    run = await yard.sync(within_s=15)

    assert (run.outcome, codes(run)) == (RunOutcome.FAILED, ["address_refused"])


@pytest.mark.hard_case("H32", guard="wharfinger.sources._http:_CheckedResolver.resolve")
async def test_a_name_that_is_also_inside_the_network_is_not_connected_to(
    yard, registry, monkeypatch
):
    fill(registry, 1)
    port = int(registry.url.rpartition(":")[2])
    resolve = socket.getaddrinfo

    def rebinding(host, *arguments, **options):
        if host != "rebinding.example":
            return resolve(host, *arguments, **options)
        addresses = ("127.0.0.1", "93.184.216.34")
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in addresses]

    monkeypatch.setattr(socket, "getaddrinfo", rebinding)
    await yard.add(at(f"http://rebinding.example:{port}", private=False), NOBODY)

    run = await yard.sync()

    assert (run.outcome, codes(run)) == (RunOutcome.FAILED, ["address_refused"])
    assert registry.log == []


@pytest.mark.hard_case("H32", guard="wharfinger.sources._http:AioTransport._exchange")
@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_a_redirect_inside_is_refused_like_any_address(yard, registry, status):
    fill(registry, 1)
    await yard.add_oci(registry)
    await yard.sync()
    before = yard.stored()
    registry.faults.answer(CATALOG, status, headers={"Location": f"{METADATA}/latest/"})

    run = await yard.sync(within_s=15)

    assert (run.outcome, codes(run)) == (RunOutcome.FAILED, ["address_refused"])
    assert yard.stored() == before


@pytest.mark.hard_case("H32", guard="wharfinger.sources._oci_login:RegistryLogin._check_realm")
@pytest.mark.parametrize(
    ("realm", "code"),
    [
        (f"{METADATA}/token", "unexpected"),
        ("https://169.254.169.254/token", "address_refused"),
        ("http://elsewhere.example/token", "unexpected"),
        ("file:///etc/passwd", "unexpected"),
    ],
)
async def test_a_password_goes_to_no_realm_inside_or_without_tls(yard, guarded, realm, code):
    fill(guarded, 1)
    guarded.behaviour.realm = realm
    await yard.add_oci(guarded, guarded.user())

    run = await yard.sync(within_s=15)

    assert (run.outcome, codes(run)) == (RunOutcome.FAILED, [code])
    assert guarded.requests("/token") == []
    assert [line.headers.get("authorization") for line in guarded.log] == [None]


# --- secrets -------------------------------------------------------------------------------------


@pytest.mark.hard_case("H33", guard="wharfinger.sources._reading:_harmless")
@pytest.mark.hard_case("H33", guard="wharfinger.store.registries:add_registry")
async def test_no_secret_is_in_a_row_a_job_an_error_or_a_log(yard, guarded, capfd):
    user = RegistryCredential(kind="basic", identity="reader", secret=guarded.behaviour.password)
    fill(guarded, 3)
    seen = []

    def parrot(asked: Asked) -> Answer:
        seen.append(asked.headers.get("authorization", ""))
        tables = dump(yard)
        seen.extend(secret for secret in secrets_of(user, seen[0]) if secret in tables)
        said = " ".join(f"{name}: {value}" for name, value in asked.header_pairs)
        return json_answer({"errors": [{"code": "DENIED", "message": said}]}, status=403)

    await yard.add_oci(guarded, user)
    guarded.faults.instead("/team/app-001/tags/list", parrot)

    run = await yard.sync()

    assert (run.outcome, codes(run)) == (RunOutcome.PARTIAL, ["forbidden"])
    assert seen[0].startswith("Bearer ")
    assert len(seen) == 1, "a secret stood in a table while the job ran"
    log = "".join(capfd.readouterr())
    assert "sync.run_started" in log
    for secret in secrets_of(user, seen[0]):
        assert secret not in dump(yard)
        assert secret not in log
        assert secret not in repr(run)


def secrets_of(user: RegistryCredential, authorization: str) -> list[str]:
    # What a bytea holds is written in hexadecimal.
    return [user.secret, user.secret.encode().hex(), authorization.partition(" ")[2]]


def dump(yard) -> str:
    """Every row of every table, jobs included, as text."""
    tables = yard.owner.execute(
        "SELECT format('%I.%I', schemaname, tablename) FROM pg_tables"
        " WHERE schemaname !~ '^pg_' AND schemaname <> 'information_schema'"
    ).fetchall()
    return "\n".join(
        row
        for (table,) in tables
        for (row,) in yard.owner.execute(f"SELECT t::text FROM {table} t")
    )
