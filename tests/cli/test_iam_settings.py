"""The identity service's settings, complete or not."""

import pytest


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({}, "WHARFINGER_IAM_USER"),
        ({"iam_user": "x"}, "WHARFINGER_IAM_PASSWORD or WHARFINGER_IAM_PASSWORD_FILE"),
        (
            {"iam_user": "x", "iam_password": "y", "iam_password_file": "/nonexistent"},
            "one of them",
        ),
        ({"iam_user": "x", "iam_password_file": "/nonexistent"}, "/nonexistent cannot be read"),
        ({"iam_user": "x", "iam_password": "y", "iam_roles": "admin=king"}, "ROLE=POLICY"),
        ({"iam_user": "x", "iam_password": "y", "iam_cache_s": "-1"}, "0 to 3600"),
    ],
)
def test_settings_that_do_not_fit_are_said_to_be_so(commands, settings, complaint):
    failed = commands("project", "list", code=1, iam_url="https://iam.example", **settings)

    assert complaint in failed.stderr
    assert "Traceback" not in failed.stderr


@pytest.mark.parametrize(
    "address", ["iam.example", "ftp://iam.example", "https://u:p@iam.example", "https://x?y"]
)
def test_an_address_that_is_none_is_refused(commands, address):
    failed = commands("project", "list", code=1, iam_url=address)

    assert "WHARFINGER_IAM_URL: must be https://HOST" in failed.stderr


def test_the_password_is_not_shown(commands):
    shown = commands("settings", iam_password="of-the-service").stdout
    told = commands("settings", "--json", iam_password="of-the-service").stdout

    assert "of-the-service" not in shown + told
    assert "WHARFINGER_IAM_PASSWORD" in shown
