from commands import PROJECT


def test_the_doctor_reports_line_by_line_and_exits_with_0(commands, add_registry):
    add_registry("sound")

    report = commands("doctor", "sound", "--project", PROJECT).stdout

    assert "catalog         the registry lists 3 repositories" in report
    assert "about 12 images in 3 repositories" in report
    assert report.splitlines()[-1].endswith(" s")


def test_a_failed_check_makes_1_and_says_what_to_do(commands, upstream):
    commands(
        *("registry", "add", "--project", PROJECT, "--name", "ill", "--kind", "SwrPrivate"),
        *("--address", upstream.url, "--access-key", upstream.key.access_key, "--secret-key-stdin"),
        stdin="not-the-secret\n",
    )

    report = commands.json("doctor", "ill", "--project", PROJECT, code=1)
    shown = commands("doctor", "ill", "--project", PROJECT, code=1).stdout

    failed = [f["check"] for f in report["findings"] if f["grade"] == "failed"]
    assert (report["ok"], failed) == (False, ["authentication"])
    assert "give good ones with wharfinger registry set" in shown
    assert "not-the-secret" not in shown
