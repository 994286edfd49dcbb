"""Our signature against the official SDK's, over everything that can stand in a request."""

import datetime as dt
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wharfinger.domain import signature
from wharfinger.domain.errors import NotAuthenticatedError

AT = dt.datetime(2026, 11, 24, 1, 50, 55, tzinfo=dt.UTC)
HOST = "127.0.0.1:41355"

PATHS = [
    "/",
    "/v2/manage/repos",
    "/v2/manage/repos/",
    "/v2/manage/namespaces/ns/repos/a%24b/tags",
    "/v2/manage/namespaces/ns/repos/a$b/tags",
    "/v2/manage/namespaces/ns/repos/a%2Fb/tags",
    "/v2/x%252Fy",
    "/v5/%7Bproject_id%7D/image/synchronize",
    "/a b/%E9%95%9C%E5%83%8F/~*'()!",
    "/plus+and&and=eq",
]
QUERIES = [
    [],
    [("limit", "1000"), ("offset", "0")],
    [("b", "2"), ("a", "2"), ("a", "1")],
    [("empty", "")],
    [("name", "镜像~*"), ("namespace", "my ns/a+b")],
    [("filter", "offset::0|limit::10|order_column::updated_at")],
    [("q", "%25 & = + ~ * ' ( ) !"), ("$", "$%2F")],
    [("a~b", "1"), ("a b", "2"), ("a+b", "3"), ("A", "4")],
]
BODIES = [b"", b"{}", b'{"image_type": "private_image"}', '{"name": "镜像"}'.encode()]


def official(method, path, query, headers, body):
    """Sign with huaweicloudsdkcore and return its Authorization and the query it would send."""
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.sdk_request import SdkRequest
    from huaweicloudsdkcore.signer.signer import Signer

    request = SdkRequest(
        method=method,
        host=HOST,
        resource_path=path,
        query_params=list(query),
        header_params={**headers, "X-Sdk-Date": AT.strftime(signature.DATE_FORMAT)},
        body=body,
    )
    Signer(BasicCredentials("AKTEST", "SKTEST")).sign(request)
    return request.header_params["Authorization"], request.uri.partition("?")[2]


def ours(method, path, raw_query, headers, body):
    added = signature.sign(
        method=method,
        host=HOST,
        raw_path=path,
        raw_query=raw_query,
        headers=list(headers.items()),
        body=body,
        access_key="AKTEST",
        secret_key="SKTEST",
        at=AT,
    )
    return dict(added)["Authorization"]


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("query", QUERIES)
def test_signs_every_path_and_query_like_the_official_sdk(path, query):
    expected, sent_query = official("GET", path, query, {"User-Agent": "x"}, b"")

    assert ours("GET", path, sent_query, {"User-Agent": "x"}, b"") == expected
    # A query in another order and with blanks as plus signs is the same query.
    assert ours("GET", path, urlencode(query[::-1]), {"User-Agent": "x"}, b"") == expected


@pytest.mark.parametrize("body", BODIES)
@pytest.mark.parametrize(
    "content_type",
    [None, "application/json", "application/json;charset=utf-8", "application/octet-stream"],
)
def test_signs_every_body_like_the_official_sdk(body, content_type):
    headers = {"X-Project-Id": "p1", "region": "镜像 1", "with_underscore": "unsigned"}
    if content_type:
        headers["Content-Type"] = content_type

    expected, _ = official("POST", "/v5/p1/image/synchronize", [], headers, body)

    assert ours("POST", "/v5/p1/image/synchronize", "", headers, body) == expected


@settings(max_examples=150, deadline=None)
@given(
    segments=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=4),
    query=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.text(st.characters(exclude_categories=["Cs"])),
        ),
        max_size=4,
    ),
)
def test_signs_whatever_can_be_written_like_the_official_sdk(segments, query):
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)

    expected, sent_query = official("GET", path, query, {}, b"")

    assert ours("GET", path, sent_query, {}, b"") == expected


def test_the_captured_request_of_the_documentation_has_the_right_shape():
    added = dict(
        signature.sign(
            method="GET",
            host="swr-api.example.com",
            raw_path="/v2/manage/repos",
            raw_query="limit=1000&offset=0",
            headers=[],
            body=b"",
            access_key="AKTEST",
            secret_key="SKTEST",
            at=AT.astimezone(dt.timezone(dt.timedelta(hours=8))),
        )
    )

    assert added["X-Sdk-Date"] == "20261124T015055Z"
    assert added["Host"] == "swr-api.example.com"
    assert added["Authorization"].startswith(
        "SDK-HMAC-SHA256 Access=AKTEST, SignedHeaders=host;x-sdk-date, Signature="
    )


def verify(*, headers, body, signed_headers):
    return signature.expected_signature(
        method="POST",
        raw_path="/v5/p1/image/synchronize",
        raw_query="",
        headers=headers,
        signed_headers=signed_headers,
        body=body,
        secret_key="SKTEST",
        date_header="20261124T015055Z",
    )


SIGNED = ["content-type", "host", "x-sdk-content-sha256", "x-sdk-date"]


@pytest.mark.parametrize("claimed", ["UNSIGNED-PAYLOAD", "0" * 64])
def test_a_json_body_is_hashed_whatever_the_content_header_claims(claimed):
    headers = [
        ("Content-Type", "application/json"),
        ("Host", HOST),
        ("X-Sdk-Content-Sha256", claimed),
        ("X-Sdk-Date", "20261124T015055Z"),
    ]

    first = verify(headers=headers, body=b'{"a": 1}', signed_headers=SIGNED)
    changed = verify(headers=headers, body=b'{"a": 2}', signed_headers=SIGNED)

    assert first != changed


@pytest.mark.parametrize(
    "headers",
    [[("Host", HOST)], [("Host", HOST), ("X-Sdk-Date", "a"), ("x-sdk-date", "b")]],
    ids=["missing", "repeated"],
)
def test_a_signed_header_must_be_there_exactly_once(headers):
    with pytest.raises(NotAuthenticatedError, match="x-sdk-date"):
        verify(headers=headers, body=b"", signed_headers=["host", "x-sdk-date"])


def test_a_query_value_is_read_the_way_the_server_reads_it_afterwards():
    assert signature.canonical_query("name=a+b") == signature.canonical_query("name=a%20b")
    assert signature.canonical_query("name=a+b") != signature.canonical_query("name=a%2Bb")
    assert signature.canonical_query("&&flag&") == "flag="
