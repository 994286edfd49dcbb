"""Enterprise projects, by the command line."""

from commands import PROJECT

OF = ("--project", PROJECT)


def listed(commands):
    return {one["name"]: one for one in commands.json("enterprise-project", "list", *OF)}


def where(commands, name):
    found = commands.json("registry", "list", *OF)
    return next(r["enterprise_project_id"] for r in found if r["name"] == name)


def test_one_is_made_granted_renamed_and_listed(commands):
    web = commands("enterprise-project", "create", "web", *OF).stdout.strip()
    commands("user", "create", "erin", *OF)
    commands("enterprise-project", "grant", "erin", web, *OF)
    commands("enterprise-project", "grant", "erin", "--all", *OF)
    commands("enterprise-project", "rename", web, "shop", *OF)

    assert listed(commands)["shop"]["grants"] == [
        {"user": "erin", "every": False},
        {"user": "erin", "every": True},
    ]
    assert listed(commands)["default"]["id"] == "0"
    assert "erin (all)" in commands("enterprise-project", "list", *OF).stdout
    users = {u["name"]: u for u in commands.json("user", "list", *OF)}
    assert users["erin"]["enterprise_projects"] == sorted(["*", "0", web])

    commands("enterprise-project", "revoke", "erin", "--all", *OF)
    commands("enterprise-project", "revoke", "erin", web, *OF)
    again = commands("enterprise-project", "revoke", "erin", web, *OF, code=1)
    assert f"'erin' is not granted enterprise project '{web}'" in again.stderr
    assert listed(commands)["shop"]["grants"] == []


def test_an_id_or_all_must_be_given_and_not_both(commands):
    for which in ((), ("0", "--all")):
        done = commands("enterprise-project", "grant", "erin", *which, *OF, code=2)
        assert "or --all" in done.stderr


def test_a_registry_is_put_into_one_and_moved(commands, add_registry):
    web = commands("enterprise-project", "create", "placed", *OF).stdout.strip()
    add_registry("placed", "--enterprise-project", web)
    assert where(commands, "placed") == web

    commands("registry", "set", *OF, "--name", "placed", "--enterprise-project", "0")

    assert where(commands, "placed") == "0"


def test_a_registry_goes_only_where_it_may(commands, add_registry):
    gone = add_registry("nowhere", "--enterprise-project", "no-such-id", code=1)
    assert "there is no enterprise project 'no-such-id'" in gone.stderr

    closed = commands("enterprise-project", "create", "closed", *OF).stdout.strip()
    commands("enterprise-project", "disable", closed, *OF)
    refused = add_registry("late", "--enterprise-project", closed, code=1)
    assert "is disabled" in refused.stderr
    commands("enterprise-project", "enable", closed, *OF)
    add_registry("late", "--enterprise-project", closed)
    assert where(commands, "late") == closed
