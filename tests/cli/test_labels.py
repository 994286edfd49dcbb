from commands import PROJECT


def test_a_label_is_set_listed_filtered_by_and_removed(commands, add_registry):
    add_registry("labelled")
    of = ("--project", PROJECT)
    commands("sync", *of, "--registry", "labelled")

    commands("label", "set", "labelled", "owner=payments", *of)
    commands("label", "set", "labelled", "environment=prod", *of, "--namespace", "elsewhere")
    shown = commands.json("label", "list", *of)
    owned = commands.json("images", *of, "--label", "owner=payments")
    nothing = commands.json("images", *of, "--label", "environment=prod")
    table = commands("images", *of, "--limit", "1").stdout
    commands("label", "remove", "labelled", "owner", *of)
    commands("label", "remove", "labelled", "owner", *of, code=1)

    assert {(one["key"], one["value"], one["namespace"]) for one in shown} == {
        ("owner", "payments", None),
        ("environment", "prod", "elsewhere"),
    }
    assert len(owned) == 12
    assert {tuple(image["labels"].items()) for image in owned} == {(("owner", "payments"),)}
    assert nothing == []
    assert ("labels" in table, "owner=payments" in table) == (True, True), table


def test_what_is_no_label_is_refused_by_name(commands, add_registry):
    add_registry("plain")

    bare = commands("label", "set", "plain", "owner", "--project", PROJECT, code=1)

    assert "label: must be KEY=VALUE" in bare.stderr
