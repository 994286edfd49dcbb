"""The official SDK signs, we check: every algorithm it knows."""

import datetime as dt
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wharfinger.domain.errors import NotAuthenticatedError
from wharfinger.identity.authentication import Authenticator, RawRequest
from wharfinger.store.callers import KnownCredential, token_digest

NOW = dt.datetime(2026, 11, 24, 1, 50, 55, tzinfo=dt.UTC)
BODY = '{"image_type": "private_image", "name": "镜像"}'.encode()
ALGORITHMS = ["SDK-HMAC-SHA256", "SDK-HMAC-SM3", "V11-HMAC-SHA256", "SDK-ECDSA-P256-SHA256"]


class Known:
    """One lasting key and one temporary one."""

    async def find_credential(self, access_key):
        digests = {"AKTEST": None, "AKTEMP": token_digest("STTOK")}
        if access_key not in digests:
            return None
        return KnownCredential(
            access_key=access_key,
            project_id="p1",
            project_name="p1",
            secret_key="SKTEST",
            security_digest=digests[access_key],
        )

    async def find_token(self, token):
        return None


def authenticator(ecdsa=True):
    return Authenticator(Known(), ecdsa=ecdsa, clock=lambda: NOW)


def officially_signed(
    algorithm,
    *,
    path="/v5/p1/image/synchronize",
    query=(),
    headers=None,
    body=BODY,
    access_key="AKTEST",
    secret_key="SKTEST",
    security_token=None,
):
    """Sign with the SDK's own classes; return the request as it would be sent."""
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.sdk_request import SdkRequest
    from huaweicloudsdkcore.signer import signer

    credentials = BasicCredentials(access_key, secret_key)
    sent = SdkRequest(
        method="POST",
        host="127.0.0.1:8080",
        resource_path=path,
        query_params=list(query),
        header_params={
            "Content-Type": "application/json",
            "X-Project-Id": "p1",
            "X-Sdk-Date": NOW.strftime("%Y%m%dT%H%M%SZ"),
            **(headers or {}),
            **({"X-Security-Token": security_token} if security_token else {}),
        },
        body=body,
    )
    if algorithm == "V11-HMAC-SHA256":
        signer.DerivationAKSKSigner(credentials).sign(sent, "hss", "cn-north-4")
    else:
        kind = {
            "SDK-HMAC-SHA256": signer.Signer,
            "SDK-HMAC-SM3": signer.SM3Signer,
            "SDK-ECDSA-P256-SHA256": signer.P256SHA256Signer,
            "SDK-SM2-SM3": signer.SM2SM3Signer,
        }[algorithm]
        kind(credentials).sign(sent)
    return RawRequest(
        method="POST",
        raw_path=path.encode(),
        raw_query=sent.uri.partition("?")[2].encode(),
        # The SDK keeps header values as the latin-1 of their UTF-8 bytes.
        headers=[(k.encode(), v.encode("latin-1")) for k, v in sent.header_params.items()],
        body=body,
    )


def changed(request, **changes):
    fields = {name: getattr(request, name) for name in request.__struct_fields__}
    return RawRequest(**fields | changes)


async def refusal(sent, known=None):
    with pytest.raises(NotAuthenticatedError) as refused:
        await (known or authenticator()).authenticate(sent)
    return refused.value.detail


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_what_the_sdk_signs_is_accepted(algorithm):
    sent = officially_signed(
        algorithm,
        path="/v5/p1/images/a%24b/~*'()!",
        query=[("name", "镜像~*"), ("namespace", "my ns/a+b"), ("a", "2"), ("a", "1")],
        headers={"region": "镜像 1", "User-Agent": "sdk"},
    )

    assert (await authenticator().authenticate(sent)).principal == "access key AKTEST"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_an_empty_body_is_signed_as_one(algorithm):
    assert await authenticator().authenticate(officially_signed(algorithm, body=b""))


@pytest.mark.parametrize("algorithm", ALGORITHMS)
@pytest.mark.parametrize(
    "changes",
    [
        {"body": BODY + b" "},
        {"raw_path": b"/v5/p2/image/synchronize"},
        {"raw_query": b"limit=1"},
        {"method": "PUT"},
    ],
    ids=lambda changes: next(iter(changes)),
)
async def test_whatever_is_changed_after_signing_is_noticed(algorithm, changes):
    sent = changed(officially_signed(algorithm), **changes)

    assert await refusal(sent) == "verify aksk signature fail"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_another_secret_is_noticed(algorithm):
    sent = officially_signed(algorithm, secret_key="SKOTHER")

    assert await refusal(sent) == "verify aksk signature fail"


@pytest.mark.parametrize("algorithm", ALGORITHMS)
async def test_a_temporary_key_needs_its_own_security_token(algorithm):
    def sent(access_key, token):
        return officially_signed(algorithm, access_key=access_key, security_token=token)

    assert await authenticator().authenticate(sent("AKTEMP", "STTOK"))
    assert "needs its X-Security-Token" in await refusal(sent("AKTEMP", None))
    assert await refusal(sent("AKTEMP", "another")) == "verify aksk signature fail"
    assert "not for a permanent access key" in await refusal(sent("AKTEST", "STTOK"))


async def test_a_security_token_must_be_signed():
    sent = officially_signed("SDK-HMAC-SHA256", access_key="AKTEMP")
    sent = changed(sent, headers=[*sent.headers, (b"X-Security-Token", b"STTOK")])

    assert await refusal(sent) == "the header x-security-token must be among SignedHeaders"


@pytest.mark.parametrize("algorithm", ["SDK-ECDSA-P256-SHA256", "SDK-SM2-SM3"])
async def test_what_costs_much_is_refused_by_name_unless_it_is_switched_on(algorithm):
    sent = officially_signed(algorithm)

    detail = await refusal(sent, authenticator(ecdsa=False))

    assert detail == f"{algorithm} is not supported here, use SDK-HMAC-SHA256"


async def test_sm2_is_refused_always():
    assert "SDK-SM2-SM3 is not supported" in await refusal(officially_signed("SDK-SM2-SM3"))


async def test_an_algorithm_cannot_be_swapped_for_another():
    sent = officially_signed("SDK-HMAC-SM3")
    headers = [(k, v.replace(b"SDK-HMAC-SM3", b"SDK-HMAC-SHA256")) for k, v in sent.headers]

    assert await refusal(changed(sent, headers=headers)) == "verify aksk signature fail"


async def test_a_derived_key_is_of_the_day_it_names():
    sent = officially_signed("V11-HMAC-SHA256")
    headers = [(k, v.replace(b"/20261124/", b"/20261123/")) for k, v in sent.headers]

    detail = await refusal(changed(sent, headers=headers))

    assert detail == "the day in Credential is not that of X-Sdk-Date"


async def test_a_derived_key_is_of_the_region_it_names():
    sent = officially_signed("V11-HMAC-SHA256")
    headers = [(k, v.replace(b"/cn-north-4/", b"/cn-north-1/")) for k, v in sent.headers]

    assert await refusal(changed(sent, headers=headers)) == "verify aksk signature fail"


@pytest.mark.parametrize(
    ("algorithm", "header"),
    [("SDK-HMAC-SHA256", "X-Sdk-Content-Sha256"), ("SDK-HMAC-SM3", "X-Sdk-Content-Sm3")],
)
@pytest.mark.parametrize("claim", ["UNSIGNED-PAYLOAD", "0" * 64])
async def test_a_signed_claim_about_the_body_is_not_believed(algorithm, header, claim):
    sent = officially_signed(algorithm, headers={header: claim})

    assert f"{header} is not" in await refusal(changed(sent, body=BODY + b" "))
    assert f"{header} is not" in await refusal(sent)


@settings(max_examples=60, deadline=None)
@given(
    algorithm=st.sampled_from(["SDK-HMAC-SM3", "V11-HMAC-SHA256"]),
    segments=st.lists(st.text(st.characters(exclude_categories=["Cs"])), min_size=1, max_size=3),
    query=st.lists(
        st.tuples(
            st.text(st.characters(exclude_categories=["Cs"]), min_size=1),
            st.text(st.characters(exclude_categories=["Cs"])),
        ),
        max_size=3,
    ),
    body=st.binary(max_size=40),
)
async def test_whatever_can_be_written_is_checked_alike(algorithm, segments, query, body):
    path = "/" + "/".join(quote(segment, safe="") for segment in segments)
    sent = officially_signed(algorithm, path=path, query=query, body=body)

    assert await authenticator().authenticate(sent)
