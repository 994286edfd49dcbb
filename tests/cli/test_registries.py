import pytest
from commands import PROJECT
from reaching import Authority

from wharfinger.sources import KINDS
from wharfinger.testing.harbor import HarborUpstream
from wharfinger.testing.oci import OciUpstream


def registries(commands, project=PROJECT):
    return {r["name"]: r for r in commands.json("registry", "list", "--project", project)}


def test_a_registry_is_added_listed_tested_and_removed(commands, upstream, add_registry):
    registry_id = add_registry("life").stdout.strip()

    listed = registries(commands)["life"]
    assert (listed["id"], listed["kind"], listed["verdict"]) == (registry_id, "SwrPrivate", "never")
    tested = commands("registry", "test", "--project", PROJECT, "--name", "life").stdout
    assert tested.startswith("ok: the registry lists 3 repositories")
    removed = commands("registry", "remove", "--project", PROJECT, "--name", "life").stdout
    assert removed == "removed life; 0 images retired\n"
    assert "life" not in registries(commands)


def test_a_test_stores_nothing(commands, add_registry):
    add_registry("looked-at")

    report = commands.json("registry", "test", "--project", PROJECT, "--name", "looked-at")

    assert (report["ok"], report["repositories"], report["sample_tags"]) == (True, 3, 4)
    assert registries(commands)["looked-at"]["images"] == 0


def test_a_test_of_a_registry_that_refuses_the_key_fails_and_says_why(commands, upstream):
    commands(
        *("registry", "add", "--project", PROJECT, "--name", "wrong-key", "--kind", "SwrPrivate"),
        *("--address", upstream.url, "--access-key", upstream.key.access_key, "--secret-key-stdin"),
        stdin="not-the-secret\n",
    )

    report = commands.json("registry", "test", "--project", PROJECT, "--name", "wrong-key", code=1)

    assert (report["ok"], report["error_code"]) == (False, "unauthorised")
    assert "not-the-secret" not in report["message"]


def test_a_filter_is_set_and_forgotten(commands, upstream, add_registry):
    add_registry("filtered", "--exclude", "nobody/*", "--stale-after", "90m")
    name = ("--project", PROJECT, "--name", "filtered")
    before = registries(commands)["filtered"]

    told = commands("registry", "set", *name, "--include", "bench-00/*").stdout
    after = registries(commands)["filtered"]
    forgotten = commands.json("registry", "set", *name, "--no-filter", "--two-strikes", "on")
    last = registries(commands)["filtered"]

    assert (before["exclude"], before["stale_after_s"]) == (["nobody/*"], 5400)
    assert told == "changed filtered\n"
    assert (after["include"], after["exclude"]) == (["bench-00/*"], ["nobody/*"])
    assert forgotten == {"name": "filtered", "hidden": 0}
    assert (last["include"], last["exclude"], last["two_strikes"]) == ([], [], "on")


def test_repositories_are_listed_with_their_verdicts(commands, upstream, add_registry):
    add_registry("verdicts")
    name = ("--project", PROJECT, "--name", "verdicts")
    commands("sync", "--project", PROJECT, "--registry", "verdicts")

    found = commands.json("registry", "repositories", *name)
    shown = commands("registry", "repositories", *name, "--verdict", "complete").stdout

    assert [r["verdict"] for r in found] == ["complete"] * 3
    assert {r["requests"] for r in found} == {1}
    assert found[0]["name"] in shown


def test_a_hint_token_is_shown_once_and_only_where_it_is_of_use(commands, add_registry):
    commands(
        *("registry", "add", "--project", PROJECT, "--name", "rings", "--kind", "Other"),
        *("--address", "http://127.0.0.1:1"),
    )
    add_registry("silent")
    name = ("--project", PROJECT, "--name", "rings")

    made = commands.json("registry", "hint-token", *name)
    refused = commands("registry", "hint-token", "--project", PROJECT, "--name", "silent", code=1)

    assert made["path"].endswith("/notifications")
    assert made["token"] not in commands("registry", "list", "--project", PROJECT).stdout
    assert registries(commands)["rings"]["takes_hints"] is True
    assert "send no notifications" in refused.stderr
    commands("registry", "hint-token", *name, "--revoke")
    assert registries(commands)["rings"]["takes_hints"] is False


def test_a_secret_is_found_nowhere_after_it_was_read(commands, upstream, add_registry):
    done = add_registry("sealed", "--json")
    shown = done.stdout + done.stderr + commands("registry", "list", "--project", PROJECT).stdout

    secret = upstream.key.secret_key
    assert secret not in shown
    written = [f for f in commands.data_dir.rglob("*") if f.is_file() and not f.is_symlink()]
    assert written
    assert not [f for f in written if secret.encode() in f.read_bytes()]


def test_no_option_takes_a_secret(commands):
    for given in ("--secret-key=x", "--password=x"):
        failed = commands(
            *("registry", "add", "--project", PROJECT, "--name", "n", "--kind", "SwrPrivate"),
            *("--address", "https://swr.example", given),
            code=2,
        )
        assert "No such option" in failed.stderr


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--access-key", "AK"), "--secret-key-stdin"),
        (("--username", "me"), "--password-stdin"),
        (("--secret-key-stdin",), "--access-key"),
        (("--access-key", "AK", "--username", "me"), "not both"),
        (("--access-key", "AK", "--secret-key-stdin"), "standard input must hold"),
        (("--option", "page_size"), "KEY=VALUE"),
    ],
)
def test_half_a_credential_is_misuse(commands, arguments, told):
    failed = commands.json(
        *("registry", "add", "--project", PROJECT, "--name", "half", "--kind", "SwrPrivate"),
        *("--address", "https://swr.example", *arguments),
        code=2,
    )

    assert failed["error_code"] == "usage"
    assert told in failed["error_msg"]
    assert "half" not in registries(commands)


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"kind": "Dockyard"}, f"kind: must be one of {', '.join(KINDS)}"),
        ({"address": "swr.example"}, "address: must be a URL"),
        ({"name": "n" * 129}, "name: must have 1 to 128 characters"),
        ({"more": ("--option", "page_size=5000")}, "options.page_size"),
        ({"more": ("--option", "colour=red")}, "options.colour: is unknown"),
    ],
)
def test_what_does_not_fit_is_refused_by_its_name(add_registry, changed, told):
    given = {"kind": "SwrPrivate", "name": "misfit", "more": ()} | changed

    failed = add_registry(
        given.pop("name"), *given.pop("more"), kind=given.pop("kind"), **given, code=1
    )

    assert failed.stderr.startswith(f"wharfinger: {told}")


def test_a_name_is_taken_once(add_registry):
    add_registry("once")

    failed = add_registry("once", code=1)

    assert "once" in failed.stderr


def test_what_is_not_there_is_said_not_to_be_there(commands):
    for command in ("remove", "test"):
        failed = commands.json("registry", command, "--project", PROJECT, "--name", "ghost", code=1)
        assert failed["error_code"] == "not_found"
        assert "ghost" in failed["error_msg"]
    assert commands.json("registry", "list", "--project", "nowhere", code=1) == {
        "error_code": "not_found",
        "error_msg": "there is no project 'nowhere'; see them with: wharfinger project list",
    }


def test_a_registry_is_trusted_with_its_own_ca_and_not_without(commands, tmp_path):
    authority = Authority("company")
    (tmp_path / "ca.pem").write_text(authority.pem)
    registry = OciUpstream()
    registry.world.push("team/app", "v1")
    registry.tls = authority.server("127.0.0.1")
    added = ("registry", "add", "--project", PROJECT, "--kind", "Other")
    tested = ("registry", "test", "--project", PROJECT)
    with registry.running_in_thread():
        commands(*added, "--name", "alien", "--address", registry.url)
        stranger = commands.json(*tested, "--name", "alien", code=1)
        ca_file = ("--ca-file", str(tmp_path / "ca.pem"))
        commands("registry", "set", "--project", PROJECT, "--name", "alien", *ca_file)
        friend = commands.json(*tested, "--name", "alien")
        (tmp_path / "ca.pem").write_text("")
        commands("registry", "set", "--project", PROJECT, "--name", "alien", *ca_file)
        stranger_again = commands.json(*tested, "--name", "alien", code=1)

    assert "certificate not trusted" in stranger["message"]
    assert (stranger_again["ok"], stranger_again["message"]) == (False, stranger["message"])
    assert (friend["ok"], friend["sample_repository"]) == (True, "team/app")


@pytest.mark.parametrize("held", [b"no certificate", "企业".encode(), b"\xff\x00"])
def test_what_is_no_certificate_is_refused_before_it_is_kept(commands, tmp_path, held):
    (tmp_path / "ca.pem").write_bytes(held)
    name = ("--project", PROJECT, "--name", "trusting")
    at = ("--kind", "Other", "--address", "https://registry.example.com")
    ca_file = ("--ca-file", str(tmp_path / "ca.pem"))

    added = commands("registry", "add", *name, *at, *ca_file, code=1)
    commands("registry", "add", *name, *at)
    changed = commands("registry", "set", *name, *ca_file, code=1)
    commands("registry", "remove", *name)

    for refused in (added, changed):
        assert refused.stderr == "wharfinger: ca_pem: must be certificates in PEM format\n"


def test_harbor_is_added_with_a_robot_account_and_options_in_words(commands):
    with HarborUpstream().running_in_thread() as harbor:
        for path in ("team/deep/app", "base/app", "other/app"):
            harbor.push(path, "v1")
        robot = harbor.robot("inventory", "team", "base")
        name = ("--project", PROJECT, "--name", "harbour")
        commands(
            *("registry", "add", *name, "--kind", "Harbor", "--address", harbor.url),
            *("--username", robot.name, "--password-stdin"),
            *("--option", "projects=team,base", "--option", "manifests=false"),
            stdin=robot.password + "\n",
        )
        commands("sync", "--project", PROJECT, "--registry", "harbour")
        commands("registry", "set", *name, "--option", "projects=team", "--option", "page_size=50")
        hidden = commands.json("registry", "repositories", *name)
        commands("sync", "--project", PROJECT, "--registry", "harbour")
        asked = [line.target for line in harbor.log]

    assert [f"{r['namespace']}/{r['name']}" for r in hidden] == ["team/deep/app"]
    lists = [target.partition("?")[0] for target in asked if "/artifacts" not in target]
    assert lists == [
        f"/api/v2.0/projects/{project}/repositories" for project in ("team", "base", "team")
    ]


@pytest.mark.parametrize(
    ("option", "rule"),
    [
        ("projects=a/b", "is no project name"),
        ("colour=red", "known are manifests, page_size, projects, proxy_caches"),
    ],
)
def test_an_option_that_harbor_does_not_take_is_refused_with_the_rule(commands, option, rule):
    done = commands(
        *("registry", "add", "--project", PROJECT, "--name", "never", "--kind", "Harbor"),
        *("--address", "https://harbor.example.com", "--option", option),
        code=1,
    )

    assert rule in done.stderr


def test_a_secret_that_is_kept_elsewhere_is_named_and_read_there(commands, upstream, tmp_path):
    place = tmp_path / "secret-key"
    place.write_text(upstream.key.secret_key + "\n")
    name = ("--project", PROJECT, "--name", "kept-elsewhere")
    access_key = ("--access-key", upstream.key.access_key)
    commands(
        *("registry", "add", *name, "--kind", "SwrPrivate", "--address", upstream.url, *access_key),
        *("--secret-from", f"file:{place}"),
    )

    report = commands.json("registry", "test", *name)
    listed = registries(commands)["kept-elsewhere"]
    commands("registry", "set", *name, *access_key, "--secret-from", "env:NOT_SET_ANYWHERE")
    without = commands.json("registry", "test", *name, code=1)

    assert report["ok"]
    assert listed["credential_reference"] == f"file:{place}"
    assert without["error_code"] == "credentials_needed"


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        (["--secret-from", "env:A"], "a secret needs its --access-key or --username"),
        (["--username", "robot"], "needs --password-stdin or --secret-from, one of them"),
        (
            ["--username", "robot", "--password-stdin", "--secret-from", "env:A"],
            "needs --password-stdin or --secret-from, one of them",
        ),
        (["--username", "robot", "--secret-from", "vault:x"], "secret_from: must be env:NAME"),
    ],
)
def test_a_secret_comes_from_one_place(commands, options, complaint):
    done = commands(
        *("registry", "add", "--project", PROJECT, "--name", "no", "--kind", "Other"),
        *("--address", "http://127.0.0.1:1", *options),
        stdin="secret\n",
        code=2 if "needs" in complaint else 1,
    )

    assert complaint in " ".join(done.stderr.replace("│", " ").split())
