"""What hosts say of their limits, in the spellings that are about."""

import pytest

from wharfinger.domain.ports import Reply
from wharfinger.sync.limits import Quota, quota, stated_rate

NOW = 1_790_000_000.0


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"ratelimit": '"default";r=50;t=30'}, Quota(50, 30)),
        ({"ratelimit": '"burst";r=3;t=2, "daily";r=900;t=3600'}, Quota(3, 2)),
        ({"ratelimit": '"a, b";r=0;t=5'}, Quota(0, 5)),
        ({"ratelimit": "limit=10, remaining=4, reset=6"}, Quota(4, 6)),
        (
            {"ratelimit-limit": "10", "ratelimit-remaining": "0", "ratelimit-reset": "9"},
            Quota(0, 9),
        ),
        ({"ratelimit-remaining": "76;w=21600", "ratelimit-reset": "12"}, Quota(76, 12)),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW + 20:.0f}"}, Quota(0, 20)),
        (
            {"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW * 1000 + 20e3:.0f}"},
            Quota(0, 20),
        ),
        ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": f"{NOW - 20:.0f}"}, Quota(0, 0)),
    ],
)
def test_a_quota_is_read_in_every_spelling(headers, expected):
    assert quota(headers, now=NOW) == expected


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"ratelimit": ""},
        {"ratelimit": '"default";r=50'},
        {"ratelimit": 'nonsense ;;;,,,= "open'},
        {"ratelimit-remaining": "0"},
        {"x-ratelimit-remaining": "many", "x-ratelimit-reset": "soon"},
        {"x-ratelimit-remaining": "9" * 40, "x-ratelimit-reset": "9" * 40},
    ],
)
def test_what_is_no_quota_is_none(headers):
    assert quota(headers, now=NOW) is None


@pytest.mark.parametrize(
    ("headers", "body", "expected"),
    [
        ({"ratelimit-policy": '"default";q=100;w=10'}, b"", 10),
        ({"ratelimit-policy": '"burst";q=5;w=1, "long";q=100;w=60'}, b"", 100 / 60),
        ({"ratelimit-policy": '"daily";q=1000;w=86400'}, b"", None),
        ({}, b'{"error_msg": "policy user over ratelimit,limit:200,time:5 minute"}', 200 / 300),
        ({}, b'{"error_msg": "policy ip over ratelimit,limit:5,time:1 second"}', 5),
        ({}, b'{"error_msg": "policy ip over ratelimit,limit:0,time:0 second"}', None),
        ({}, b'{"error_msg": "Too many requests"}', None),
    ],
)
def test_a_limit_that_a_refusal_names_is_a_rate(headers, body, expected):
    assert stated_rate(Reply(status=429, headers=headers, body=body, url="")) == expected
