"""Reading answers: errors of every shape, waits, times, links."""

import datetime as dt

import msgspec
import pytest

from wharfinger.domain.errors import (
    MalformedAnswerError,
    ThrottledError,
    UnexpectedAnswerError,
    UpstreamFailureError,
)
from wharfinger.domain.ports import Reply
from wharfinger.sources._reading import (
    decode,
    error_body,
    next_link,
    raise_for_status,
    retry_after_s,
    timestamp,
)


def reply(status=200, body=b"", **headers):
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    user = "" if "link" in headers else "u@"
    return Reply(
        status=status, headers=named, body=body, url=f"https://{user}r.example/v2/x?token=hidden"
    )


@pytest.mark.parametrize(
    "body",
    [
        b'[{"errorCode":"C.1","errorMessage":"said","detail":""}]',
        b'{"errors":[{"errorCode":"C.1","errorMessage":"said"}]}',
        b'{"errors":[{"errorCode":"X"}],"error_code":"C.1","error_msg":"said","details":[]}',
        b'{"error_msg":"said","error_code":"C.1","request_id":"0"}',
        b'{"errors":[{"code":"C.1","message":"said","detail":{"a":1}}]}',
        b'{"error":{"code":"C.1","message":"said","title":"t"}}',
        b'{"code":"C.1","message":"said"}',
        b'{"__type":"C.1","message":"said"}',
    ],
)
def test_an_error_is_read_in_every_shape(body):
    error = error_body(body)

    assert (error.code, error.message) == ("C.1", "said")


@pytest.mark.parametrize(
    "body", [b"", b"<html>", b"[]", b"null", b"{}", b"[" * 100_000, b'{"error":"text"}', b"\xff"]
)
def test_what_is_no_error_is_read_as_none(body):
    assert error_body(body).code == ""


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({"retry_after": "7"}, 7),
        ({"retry_after": "0"}, 0),
        ({"retry_after": " 1.5 "}, 1.5),
        (
            {
                "retry_after": "Tue, 24 Nov 2026 01:00:30 GMT",
                "date": "Tue, 24 Nov 2026 01:00:00 GMT",
            },
            30,
        ),
        (
            {
                "retry_after": "Tue, 24 Nov 2026 00:00:00 GMT",
                "date": "Tue, 24 Nov 2026 01:00:00 GMT",
            },
            0,
        ),
        ({"x_retry_after": "1795482020", "date": "Tue, 24 Nov 2026 01:00:00 GMT"}, 20),
        ({"retry_after": "soon"}, None),
        ({"retry_after": "-1"}, None),
        ({}, None),
    ],
)
def test_h12_a_wish_to_wait_is_read_in_every_form(headers, seconds):
    assert retry_after_s(reply(429, **headers)) == seconds


def test_a_failure_that_names_a_time_passes_it_on():
    with pytest.raises(UpstreamFailureError) as caught:
        raise_for_status(reply(503, retry_after="3"))
    with pytest.raises(ThrottledError):
        raise_for_status(reply(500, b'{"code":"T","message":""}'), throttling_codes=frozenset("T"))

    assert caught.value.retry_after_s == 3


@pytest.mark.parametrize("status", [200, 201, 204])
def test_success_passes(status):
    raise_for_status(reply(status))


@pytest.mark.parametrize("status", [302, 304, 400, 418])
def test_a_status_without_meaning_is_unexpected(status):
    with pytest.raises(UnexpectedAnswerError):
        raise_for_status(reply(status))


def test_h33_an_error_shows_neither_url_secrets_nor_what_the_server_repeats():
    body = msgspec.json.encode(
        {"code": "X", "message": "Bearer abc and Basic dTpw and " + "s3cret" * 10 + "\x1b[31m"}
    )

    with pytest.raises(UnexpectedAnswerError) as caught:
        raise_for_status(reply(400, body))

    told = str(caught.value)
    assert "https://r.example/v2/x: 400 X" in told
    assert not [leak for leak in ("hidden", "u@", "abc", "dTpw", "s3crets3cret") if leak in told]
    assert told.isprintable()


@pytest.mark.parametrize(
    ("body", "hint"),
    [
        (b"", "empty"),
        (b"  <!DOCTYPE html>", "HTML"),
        (b"[1, 2", "cut short"),
        (b'{"error_code":"X.1","error_msg":"said"}', "X.1 said"),
        (b'["a"]', "not the expected JSON"),
        (b"[" * 1_000_000, "not the expected JSON"),
        (b'["\xff"]', "not the expected JSON"),
    ],
)
def test_h09_what_is_malformed_says_what_it_is_instead(body, hint):
    with pytest.raises(MalformedAnswerError, match=hint):
        decode(reply(body=body), list[int])


def utc(*fields):
    return dt.datetime(*fields, tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("text", "when"),
    [
        ("2017-09-11T03:00:02.542841141Z", utc(2017, 9, 11, 3, 0, 2, 542841)),
        ("2017-09-11T03:00:02.5Z", utc(2017, 9, 11, 3, 0, 2, 500000)),
        ("2017-01-01T00:00:00Z", utc(2017, 1, 1)),
        ("2025-08-26T19:26:02.435223+08:00", utc(2025, 8, 26, 11, 26, 2, 435223)),
        ("2017-01-01 00:00:00", utc(2017, 1, 1)),
        ("0001-01-01T00:00:00Z", None),
        ("0001-01-01T00:00:00+08:00", None),
        ("1970-01-01T00:00:00Z", None),
        ("2999-01-01T00:00:00Z", None),
        ("yesterday", None),
        ("", None),
        (None, None),
    ],
)
def test_h31_times_are_read_and_believed_only_if_sane(text, when):
    assert timestamp(text) == when


@pytest.mark.parametrize(
    ("link", "url"),
    [
        ('</v2/x?a=%2F&b=1>; rel="next"', "https://r.example/v2/x?a=%2F&b=1"),
        ('</v2/x?a=b c>; rel="next"', "https://r.example/v2/x?a=b%20c"),
        ('<https://r.example:443/y>; rel="next"', "https://r.example/y"),
        ('<http://r.example/y>; rel="next"', "https://r.example/y"),
        ('</y>; rel="prev"', None),
        ("</y>", None),
        ("", None),
        (",,;;", None),
    ],
)
def test_h05_the_next_page_is_found(link, url):
    assert next_link(reply(link=link)) == url
