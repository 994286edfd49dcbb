import re
import shlex

from commands import PROJECT


def registries(commands, project=PROJECT):
    return {r["name"]: r for r in commands.json("registry", "list", "--project", project)}


def test_access_to_swr_is_two_registries_and_one_for_each_instance(commands, upstream):
    instance = upstream.world.instance("prod")
    instance.content.push("team/app", "v1")
    access = (
        *("--project", PROJECT, "--region", "cn-north-4", "--address", upstream.url),
        *("--swr-project-id", upstream.world.home.project_id),
        *("--access-key", upstream.key.access_key, "--secret-key-stdin"),
    )
    secret = upstream.key.secret_key + "\n"

    listed = commands.json("swr", "instances", *access, stdin=secret)
    shown = commands("swr", "instances", *access, stdin=secret).stdout
    done = commands.json("swr", "configure", "--instances", *access, stdin=secret)
    again = commands("swr", "configure", "--instances", *access, stdin=secret).stdout
    commands("sync", "--project", PROJECT)

    assert [(one["id"], one["name"], one["expires_at"]) for one in listed] == [
        (instance.id, "prod", None)
    ]
    assert instance.id in shown
    assert "never" in shown
    assert [(one["name"], one["kind"], one["outcome"]) for one in done] == [
        ("swr-private-cn-north-4", "SwrPrivate", "added"),
        ("swr-shared-cn-north-4", "SwrShared", "added"),
        ("swr-prod", "SwrEnterprise", "added"),
    ]
    assert again.count("unchanged") == 3
    made = registries(commands)
    assert {name: r["images"] for name, r in made.items()} == {
        "swr-private-cn-north-4": 12,
        "swr-shared-cn-north-4": 0,
        "swr-prod": 1,
    }


def test_the_command_that_an_empty_project_is_told_configures_it(commands):
    project = commands("project", "create", "empty").stdout.strip()
    refused = commands("sync", "--project", project, code=1)

    told = re.search(r"wharfinger (swr .*--secret-key-stdin)", refused.stderr)[1]
    commands(*shlex.split(told), stdin="secret\n")

    (private, shared) = registries(commands, project).values()
    assert (private["kind"], shared["kind"]) == ("SwrPrivate", "SwrShared")
    assert private["address"] == "https://swr-api.REGION.myhuaweicloud.com"
