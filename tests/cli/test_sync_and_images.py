import csv
import datetime as dt
import io
import json
import socket
import subprocess

import pytest
from commands import PROJECT, Commands, await_end

from wharfinger.cli.common import whole_file
from wharfinger.testing.model import made_up_world
from wharfinger.testing.upstream import Upstream


@pytest.fixture(scope="module")
def synced(commands, upstream):
    """A project of its own whose list is complete: 3 repositories of 4 images."""
    commands("project", "create", "listed", "--id", "listed")
    commands(
        *("registry", "add", "--project", "listed", "--name", "swr", "--kind", "SwrPrivate"),
        *("--address", upstream.url, "--access-key", upstream.key.access_key, "--secret-key-stdin"),
        stdin=upstream.key.secret_key,
    )
    commands("sync", "--project", "listed")
    return upstream.world.images()


def images(commands, *arguments):
    return commands("images", "--project", "listed", *arguments).stdout


def test_a_complete_sync_exits_with_0_and_says_what_it_did(commands, add_registry):
    add_registry("whole")

    done = commands("sync", "--project", PROJECT, "--registry", "whole")

    assert done.stdout.startswith("whole: complete: 3/3 repositories, 12 images, ")
    assert "12 added, 0 moved, 0 retired, 0 restored, 0 held" in done.stdout
    assert "Traceback" not in done.stderr


def test_one_broken_repository_makes_3_and_is_named(commands):
    world = made_up_world(3, 4)
    broken = world.owned()[1].path
    with Upstream(world).running_in_thread() as upstream:
        commands("project", "create", "broken", "--id", "broken")
        commands(
            *("registry", "add", "--project", "broken", "--name", "swr", "--kind", "SwrPrivate"),
            *("--address", upstream.url, "--access-key", upstream.key.access_key),
            "--secret-key-stdin",
            stdin=upstream.key.secret_key,
        )
        upstream.forbid(rf"/repos/{broken.partition('/')[2]}/tags")

        done = commands("sync", "--project", "broken", code=3)
        task = commands.json("sync", "--project", "broken", code=3)

    assert done.stdout.startswith("swr: partial: 2/3 repositories")
    assert f"{broken}: " in done.stdout
    assert "(forbidden)" in done.stdout
    (run,) = task["runs"]
    assert (run["outcome"], run["repositories_failed"]) == ("partial", 1)
    assert [reason["repository"] for reason in run["reasons"]] == [broken]
    # What could be read is listed all the same.
    assert len(commands.json("images", "--project", "broken")) == 8


def test_a_registry_that_does_not_answer_makes_1(commands, add_registry):
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        nobody = f"http://127.0.0.1:{bound.getsockname()[1]}"
        add_registry("silent", address=nobody)

        done = commands("sync", "--project", PROJECT, "--registry", "silent", code=1)

    assert done.stdout.startswith("silent: failed: 0/0 repositories")
    assert "(unreachable)" in done.stdout


def test_a_registry_that_is_not_there_makes_1(commands):
    failed = commands.json("sync", "--project", PROJECT, "--registry", "ghost", code=1)

    assert failed["error_code"] == "not_found"


def test_a_project_without_registries_is_told_how_to_add_one(commands):
    commands("project", "create", "bare", "--id", "bare")

    failed = commands.json("sync", "--project", "bare", code=1)

    assert failed["error_code"] == "not_configured"
    assert "wharfinger swr configure --project bare" in failed["error_msg"]


def test_full_reads_what_stands_too(commands, synced):
    quick = commands.json("sync", "--project", "listed")["runs"][0]
    full = commands.json("sync", "--project", "listed", "--full")["runs"][0]

    assert full["full"]
    assert not quick["full"]
    assert full["requests"] >= quick["requests"]
    assert (full["added"], full["retired"]) == (0, 0)


def test_every_format_holds_the_whole_list(commands, synced):
    as_json = json.loads(images(commands, "--format", "json"))
    as_ndjson = [json.loads(line) for line in images(commands, "--format", "ndjson").splitlines()]
    as_csv = list(csv.DictReader(io.StringIO(images(commands, "--format", "csv"))))
    as_table = images(commands, "--format", "table")

    assert {(f"{i['namespace']}/{i['name']}", i["tag"], i["digest"]) for i in as_json} == synced
    assert as_ndjson == as_json == commands.json("images", "--project", "listed")
    assert [row["digest"] for row in as_csv] == [i["digest"] for i in as_json]
    assert list(as_csv[0]) == list(as_json[0])
    for image in as_json:
        assert f"{image['namespace']}/{image['name']}" in as_table


def test_an_export_is_the_list_now_and_as_it_was(commands, synced, tmp_path):
    then = dt.datetime.now(dt.UTC).isoformat()
    now, past = tmp_path / "now.csv", tmp_path / "past.csv"
    export = ("export", "--project", "listed", "--format")

    told = commands.json(*export, "csv", "-o", now)
    commands(*export, "csv", "-o", past, "--at", then)
    bom = json.loads(commands(*export, "cyclonedx", "-o", "-", "--latest").stdout)

    whole = commands.json("images", "--project", "listed")
    for file in (now, past):
        rows = list(csv.DictReader(file.read_text("utf-8").splitlines()))
        assert [row["digest"] for row in rows] == [image["digest"] for image in whole]
    assert told == {
        "file": str(now),
        "bytes": now.stat().st_size,
        "as_of": 12,
        "verdict": "complete",
    }
    assert len(bom["components"]) == 3
    assert sorted(tmp_path.iterdir()) == [now, past]


def test_a_failed_export_leaves_the_old_file(tmp_path):
    file = tmp_path / "list.csv"
    file.write_bytes(b"old")

    with pytest.raises(RuntimeError), whole_file(file) as half:
        half.write(b"new")
        raise RuntimeError

    assert [(one, one.read_bytes()) for one in tmp_path.iterdir()] == [(file, b"old")]


def test_an_export_that_cannot_be_written_says_so(commands, synced, tmp_path):
    nowhere = tmp_path / "none" / "list.csv"

    failed = commands.json(
        *("export", "--project", "listed", "--format", "csv", "-o", nowhere), code=1
    )

    assert failed["error_code"] == "setup"
    assert f"{nowhere} cannot be written: No such file" in failed["error_msg"]


def test_a_backup_is_for_its_owner_and_comes_back_elsewhere(commands, synced, data_dir, tmp_path):
    file = tmp_path / "backup.zip"
    elsewhere = Commands(data_dir)

    told = commands("backup", "-o", str(file)).stdout
    back = elsewhere.json("restore", str(file))
    again = elsewhere.json("restore", str(file), code=1)

    assert file.stat().st_mode & 0o777 == 0o600
    assert f"Without {commands.data_dir / 'secret.key'}, which is not in it" in told
    assert f"{back['rows']} rows of {back['tables']} tables" in told
    assert elsewhere.json("images", "--project", "listed") == commands.json(
        "images", "--project", "listed"
    )
    assert "has projects already" in again["error_msg"]
    await_end(data_dir)


def test_a_look_before_an_upgrade_exits_by_what_it_finds(commands, synced):
    good = commands.json("upgrade-check")
    bad = commands.json("upgrade-check", code=1, secret_key_file="/nonexistent/key")

    assert good["ok"]
    assert {one["check"] for one in good["checks"]} == {
        *("binaries", "server", "migrations", "transactions", "extensions", "workers"),
        *("disk", "keys"),
    }
    assert [one["check"] for one in bad["checks"] if one["grade"] == "fail"] == ["keys"]


def test_filters_narrow_the_list(commands, synced):
    whole = commands.json("images", "--project", "listed")
    one = whole[0]

    by_tag = commands.json("images", "--project", "listed", "--tag", one["tag"])
    by_name = commands.json("images", "--project", "listed", "--name", one["name"])
    newest = commands.json("images", "--project", "listed", "--latest")
    none = commands.json("images", "--project", "listed", "--kind", "SwrShared")
    first = commands.json("images", "--project", "listed", "--limit", "5")

    assert by_tag == [image for image in whole if image["tag"] == one["tag"]]
    assert by_name == [image for image in whole if one["name"] in image["name"]]
    assert len(newest) == 3
    assert none == []
    assert first == whole[:5]


def test_a_reader_who_has_seen_enough_hears_no_complaint(commands, synced):
    process = subprocess.Popen(
        commands.line("images", "--project", "listed", "--format", "csv"),
        env=commands.environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    process.stdout.close()

    assert process.stderr.read() == ""
    process.stderr.close()
    process.wait(30)


def test_what_belongs_to_an_image_is_shown_and_filtered_by(commands):
    world = made_up_world(1, 2)
    path, (first, second) = world.owned()[0].path, sorted(world.owned()[0].tags)
    beside = world.tag(path, first).content.digest.replace(":", "-")
    for suffix in ("sig", "sbom"):
        world.push(path, f"{beside}.{suffix}")
    with Upstream(world).running_in_thread() as upstream:
        commands("project", "create", "signed", "--id", "signed")
        commands(
            *("registry", "add", "--project", "signed", "--name", "swr", "--kind", "SwrPrivate"),
            *("--address", upstream.url, "--access-key", upstream.key.access_key),
            "--secret-key-stdin",
            stdin=upstream.key.secret_key,
        )
        commands("sync", "--project", "signed")
    of = ("images", "--project", "signed")
    refused = commands(*of, "--signed", "--at", "2026-11-01T00:00:00Z", code=2)

    (image,) = commands.json(*of, "--signed", "--sbom")

    assert (image["tag"], image["signed"], image["has_sbom"]) == (first, True, True)
    assert [one["kind"] for one in image["attachments"]] == ["sbom", "signature"]
    assert second in {one["tag"] for one in commands.json(*of, "--unsigned", "--no-sbom")}
    assert commands.json(*of, "--signed", "--no-sbom") == []
    table = commands(*of, "--tag", first).stdout
    assert "sbom, signature" in table
    (row,) = csv.DictReader(io.StringIO(commands(*of, "--signed", "--format", "csv").stdout))
    assert row["attachments"].startswith("sbom=sha256:")
    assert "known of the current list only" in refused.stderr
