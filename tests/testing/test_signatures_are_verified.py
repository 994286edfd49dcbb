from __future__ import annotations

import dataclasses
import datetime as dt
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wharfinger.domain.signature import sign
from wharfinger.testing.faults import Asked
from wharfinger.testing.signing import SignatureRefusedError, expected_signature, verify_signature

SECRET = "SKTEST"
NOW = dt.datetime(2026, 11, 24, 1, 50, 55, tzinfo=dt.UTC)
HOST = ("host", "swr-api.example")
DATE = ("x-sdk-date", "20261124T015055Z")


def signed(method="GET", path="/v2/manage/repos", query="", *extra, body=b"", names=None):
    pairs = [HOST, DATE, *extra]
    bare = Asked(
        method=method, path=path, query=query, headers=dict(pairs), header_pairs=pairs, body=body
    )
    signed_names = names or sorted(name for name, _ in pairs)
    signature = expected_signature(bare, signed_names, SECRET)
    value = (
        f"SDK-HMAC-SHA256 Access=AKTEST, SignedHeaders={';'.join(signed_names)}, "
        f"Signature={signature}"
    )
    return with_header(bare, "authorization", value)


def with_header(asked, name, value):
    pairs = [*asked.header_pairs, (name, value)]
    return dataclasses.replace(asked, headers=dict(pairs), header_pairs=pairs)


def verify(asked, now=NOW):
    return verify_signature(asked, {"AKTEST": SECRET}.get, now=now)


def test_a_signed_request_tells_its_key():
    assert verify(signed()) == "AKTEST"


def test_a_signature_of_the_official_signer_is_accepted():
    signer = pytest.importorskip("huaweicloudsdkcore.signer.signer")
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.sdk_request import SdkRequest

    request = SdkRequest(
        method="POST",
        schema="https",
        host="swr-api.example",
        resource_path="/v2/manage/namespaces/team/repos/a%24b/tags/",
        uri="",
        query_params=[("filter", "a::b|c::d"), ("x", "1 +*~'()!"), ("a", "镜")],
        header_params={"Content-Type": "application/json", "X-Project-Id": "p"},
        body='{"k": "v"}',
        stream=False,
    )
    sent = signer.Signer(BasicCredentials("AKTEST", SECRET, "p")).sign(request)
    path, _, query = sent.uri.partition("?")
    pairs = [(name.lower(), value) for name, value in sent.header_params.items()]
    asked = Asked(
        method="POST",
        path=path,
        query=query,
        headers=dict(pairs),
        header_pairs=pairs,
        body=sent.body,
    )

    assert verify(asked, now=dt.datetime.now(dt.UTC)) == "AKTEST"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "DELETE"},
        {"path": "/v2/manage/namespaces"},
        {"query": "limit=1"},
        {"body": b"{}"},
    ],
)
def test_what_was_changed_after_signing_is_refused(change):
    with pytest.raises(SignatureRefusedError, match="verify aksk signature fail"):
        verify(dataclasses.replace(signed(), **change))


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (signed(names=["x-sdk-date"]), "must be signed: host"),
        (signed(names=["host"]), "must be signed: x-sdk-date"),
        (
            signed("GET", "/", "", ("x-project-id", "p"), names=["host", "x-sdk-date"]),
            "x-project-id",
        ),
        (signed(names=["x-sdk-date", "host"]), "sorted"),
        (with_header(signed(), "host", "elsewhere"), "sent twice"),
        (signed("PUT", "/", "", ("x-sdk-content-sha256", "UNSIGNED-PAYLOAD"), body=b"{}"), "hash"),
        (with_header(signed(), "authorization", "SDK-HMAC-SHA256 Access=AKTEST"), "not an SDK"),
    ],
)
def test_incomplete_signatures_are_refused(asked, reason):
    with pytest.raises(SignatureRefusedError, match=reason):
        verify(asked)


@pytest.mark.parametrize(("minutes", "accepted"), [(14.9, True), (-14.9, True), (16, False)])
def test_the_date_may_differ_by_fifteen_minutes(minutes, accepted):
    now = NOW + dt.timedelta(minutes=minutes)

    if accepted:
        assert verify(signed(), now=now) == "AKTEST"
    else:
        with pytest.raises(SignatureRefusedError, match="15 minutes"):
            verify(signed(), now=now)


def test_an_unknown_key_is_told_apart_from_a_wrong_one():
    with pytest.raises(SignatureRefusedError, match="ak not exist"):
        verify_signature(signed(), {}.get, now=NOW)


TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)
CONTENT_TYPE = st.sampled_from(["application/json", "text/plain", "application/json;charset=utf-8"])


@given(
    segments=st.lists(TEXT, max_size=4),
    pairs=st.lists(st.tuples(TEXT, TEXT), max_size=4),
    body=st.binary(max_size=20),
    content_type=CONTENT_TYPE,
)
def test_what_the_service_signs_is_accepted_here(segments, pairs, body, content_type):
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    query = "&".join(f"{quote(k, safe='')}={quote(v, safe='')}" for k, v in pairs)
    headers = [("Content-Type", content_type), ("X-Project-Id", "p")]
    added = sign(
        method="POST",
        host="swr-api.example",
        raw_path=path,
        raw_query=query,
        headers=headers,
        body=body,
        access_key="AKTEST",
        secret_key=SECRET,
        at=NOW,
    )
    sent = [(name.lower(), value) for name, value in [*headers, *added]]
    asked = Asked(
        method="POST", path=path, query=query, headers=dict(sent), header_pairs=sent, body=body
    )

    assert verify(asked) == "AKTEST"
    with pytest.raises(SignatureRefusedError):
        verify(dataclasses.replace(asked, path=path + "/x"))
