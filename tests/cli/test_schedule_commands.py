import re

from commands import PROJECT


def test_a_schedule_is_listed_set_paused_and_resumed(commands, add_registry):
    add_registry("nightly")
    of = ("--project", PROJECT)

    usual = {s["registry"]: s for s in commands.json("schedule", "list", *of)}["nightly"]
    hourly = commands.json(
        "schedule", "set", "nightly", *of, "--cron", "@hourly", "--full", "never"
    )
    paused = commands("schedule", "pause", "nightly", *of).stdout
    resumed = commands("schedule", "resume", "nightly", *of).stdout

    assert (usual["cron"], usual["full_syncs"]) == ("0 1 * * *", "daily")
    assert (hourly["cron"], hourly["full_syncs"]) == ("@hourly", "never")
    assert "paused" in paused
    assert re.search(r"nightly.+@hourly.+never.+UTC", resumed)


def test_what_cannot_be_a_schedule_is_refused_by_name(commands, add_registry):
    add_registry("odd")
    of = ("--project", PROJECT)

    bad = commands("schedule", "set", "odd", *of, "--cron", "often", code=1)
    nothing = commands("schedule", "set", "odd", *of, code=2)
    unknown = commands("schedule", "pause", "not-there", *of, code=1)

    assert "cron: must be five fields" in bad.stderr
    assert "give --cron, --full, or both" in nothing.stderr
    assert "not-there" in unknown.stderr


def test_a_project_has_a_time_zone(commands):
    commands("project", "create", "east", "--id", "east")

    before = commands("project", "time-zone", "--project", "east").stdout
    commands("project", "time-zone", "Asia/Shanghai", "--project", "east")
    wrong = commands("project", "time-zone", "Asia/Atlantis", "--project", "east", code=1)

    assert before == "UTC\n"
    assert commands("project", "time-zone", "--project", "east").stdout == "Asia/Shanghai\n"
    assert "IANA" in wrong.stderr
