"""How many requests a minute are let through: by credential, and by address."""

from __future__ import annotations

import pytest
from clients import call, sdk_client

from wharfinger.http.limits import Buckets

pytestmark = pytest.mark.filterwarnings("ignore:Method .* is deprecated:DeprecationWarning")

WORDS = "The throttling threshold has been reached: policy {} over ratelimit,limit:{},time:1 minute"


def patient_client(house, tenant):
    """The official client as one makes it that repeats what may be repeated."""
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkcore.http.http_config import HttpConfig
    from huaweicloudsdkhss.v5 import HssClient

    credentials = BasicCredentials(
        tenant.credential.access_key, tenant.credential.secret_key, tenant.id
    )
    config = HttpConfig(retry_times=3)
    builder = HssClient.new_builder().with_http_config(config).with_credentials(credentials)
    return builder.with_endpoint(house.url).build()


def registries(house, tenant, token=None, **headers):
    path = f"/v5/{tenant.id}/image/registries"
    return call(house, path, token=token or tenant.token, headers=headers)


def test_a_credential_has_its_share_and_is_told_when_to_return(house, tenant):
    house.throttle.credentials.per_minute = 3

    statuses = [registries(house, tenant)[0] for _ in range(3)]
    status, headers, body = registries(house, tenant)

    assert statuses == [200] * 3
    assert (status, headers["Retry-After"]) == (429, "20")
    assert body == {
        "error_code": "APIGW.0308",
        "error_msg": WORDS.format("user", 3),
        "request_id": headers["X-Request-Id"],
    }


@pytest.mark.parametrize("path", ["/api/v1/projects/{}/registries", "/v3/projects?for={}"])
def test_every_api_counts_and_says_so(house, tenant, path):
    house.throttle.credentials.per_minute = 1

    assert call(house, path.format(tenant.id), token=tenant.token)[0] == 200
    status, headers, body = call(house, path.format(tenant.id), token=tenant.token)

    assert (status, body["error_code"], headers["Retry-After"]) == (429, "APIGW.0308", "60")


def test_one_credential_takes_nothing_from_another(house, tenant):
    house.throttle.credentials.per_minute = 1
    other = house.tenant()

    assert [registries(house, tenant)[0] for _ in range(2)] == [200, 429]
    # The key of the same project is a credential of its own.
    assert sdk_status(house, tenant) == 200
    assert registries(house, other)[0] == 200


def test_all_tokens_of_one_user_are_one_credential(house, tenant):
    import datetime as dt

    house.throttle.credentials.per_minute = 2
    tokens = [
        house.run(house.callers.create_token(tenant.id, dt.timedelta(hours=1))) for _ in range(3)
    ]

    assert [registries(house, tenant, token)[0] for token in tokens] == [200, 200, 429]


def test_naming_somebody_elses_key_uses_up_nothing_of_theirs(house, tenant):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    house.throttle.credentials.per_minute = 1
    for _ in range(3):
        with pytest.raises(ClientRequestException) as refused:
            sdk_answer(house, tenant, secret_key="wrong")
        assert refused.value.status_code == 401

    assert sdk_answer(house, tenant).total_num == 0


def sdk_answer(house, tenant, **changes):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    return sdk_client(house, tenant, **changes).list_registry_images(ListRegistryImagesRequest())


def sdk_status(house, tenant):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException

    try:
        sdk_answer(house, tenant)
    except ClientRequestException as refused:
        return refused.status_code
    return 200


def test_the_official_client_waits_and_goes_on(house, tenant):
    from huaweicloudsdkhss.v5 import ListRegistryImagesRequest

    house.throttle.credentials.per_minute = 60
    client = patient_client(house, tenant)
    # Its minute's worth is used up but for one request.
    house.run(charged(house, tenant, 59))

    answers = [client.list_registry_images(ListRegistryImagesRequest()) for _ in range(3)]

    assert [answer.total_num for answer in answers] == [0, 0, 0]
    assert house.answered(429) >= 2


async def charged(house, tenant, requests):
    name = f"{tenant.id}/{tenant.id}/access key {tenant.credential.access_key}"
    house.throttle.credentials.charge(name, requests)


def test_the_official_client_does_not_repeat_a_synchronisation(house, tenant):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkhss.v5 import RunImageSynchronizeRequest, RunImageSynchronizeRequestInfo

    house.throttle.credentials.per_minute = 60
    house.run(charged(house, tenant, 60))
    body = RunImageSynchronizeRequestInfo(image_type="private_image")

    with pytest.raises(ClientRequestException) as refused:
        patient_client(house, tenant).run_image_synchronize(RunImageSynchronizeRequest(body=body))

    assert (refused.value.status_code, refused.value.error_code) == (429, "APIGW.0308")
    assert refused.value.error_msg == WORDS.format("user", 60)
    assert house.answered(429) == 1
    assert house.synchroniser.asked == []


def test_an_address_has_its_share_before_credentials_are_looked_at(house, tenant):
    house.throttle.addresses.per_minute = 2

    statuses = [call(house, path)[0] for path in ("/", "/nowhere")]
    status, headers, body = registries(house, tenant)

    assert statuses == [200, 404]
    assert (status, headers["Retry-After"]) == (429, "30")
    assert (body["error_code"], body["error_msg"]) == ("APIGW.0308", WORDS.format("ip", 2))


def test_an_address_behind_our_proxy_is_the_clients_own(house, tenant):
    house.throttle.addresses.per_minute = 1

    one = [registries(house, tenant, X_Forwarded_For="192.0.2.1")[0] for _ in range(1)]
    forwarded = [
        registries(house, tenant, **{"X-Forwarded-For": address})[0]
        for address in ("192.0.2.1", "192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2")
    ]

    assert one == [200]
    # The last two are one network of IPv6.
    assert forwarded == [200, 429, 200, 200, 429]


def test_guessing_costs_an_address_more_than_asking(house, tenant):
    house.throttle.addresses.per_minute = 100
    guesses = []
    while 429 not in guesses:
        guesses.append(registries(house, tenant, token="wrong")[0])

    assert guesses == [401] * 5 + [429]


def test_health_is_told_however_much_is_asked(house):
    house.throttle.addresses.per_minute = 1

    assert [call(house, "/healthz")[0] for _ in range(3)] == [200] * 3
    assert [call(house, "/readyz")[0] for _ in range(3)] == [200] * 3
    assert [call(house, "/")[0] for _ in range(2)] == [200, 429]


def test_zero_is_no_limit(house, tenant):
    house.throttle.addresses.per_minute = house.throttle.credentials.per_minute = 0

    assert {registries(house, tenant)[0] for _ in range(20)} == {200}


# --- the buckets themselves -----------------------------------------------------------------------


class Clock:
    now = 1000.0

    def __call__(self):
        return self.now


def test_a_bucket_fills_evenly_and_never_beyond_a_minutes_worth():
    clock = Clock()
    buckets = Buckets(60, clock=clock)

    assert [buckets.take("a") for _ in range(60)] == [0] * 60
    assert buckets.take("a") == 1
    clock.now += 2.5
    assert [buckets.take("a") for _ in range(3)] == [0, 0, 1]
    clock.now += 3600
    assert [buckets.take("a") for _ in range(61)] == [0] * 60 + [1]


def test_nobody_comes_to_owe_more_than_a_minute():
    clock = Clock()
    buckets = Buckets(60, clock=clock)
    for _ in range(1000):
        buckets.charge("a", 20)

    assert buckets.take("a") == 61
    clock.now += 61
    assert buckets.take("a") == 0


def test_a_flood_of_addresses_takes_no_more_memory_than_it_may():
    buckets = Buckets(1, most=100)

    for number in range(10_000):
        buckets.take(f"2001:db8:{number:x}::/64")

    assert len(buckets) == 100
    assert buckets.take("2001:db8:270f::/64") > 0
