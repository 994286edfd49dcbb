"""The bodies of errors: the gateway's, which come before any service, and HSS's own."""

from __future__ import annotations

import msgspec

from wharfinger.domain.errors import OverRateError

RETRY_AFTER_S = 5


class GatewayError(msgspec.Struct, frozen=True, kw_only=True):
    """What API Gateway answers before a service is reached."""

    error_msg: str
    error_code: str
    request_id: str


class HssError(msgspec.Struct, frozen=True, kw_only=True):
    """What HSS answers. The SDK reads ``error_code`` only where ``error_msg`` stands beside it."""

    error_code: str
    error_description: str
    error_msg: str


class Refusal(msgspec.Struct, frozen=True, kw_only=True):
    """An error ready to be sent."""

    status: int
    body: bytes
    headers: tuple[tuple[str, str], ...] = ()


def gateway_refusal(
    status: int, code: str, message: str, request_id: str, *, retry_after_s: int | None = None
) -> Refusal:
    """Make an error as the gateway words it. The SDK repeats a GET where ``Retry-After`` stands."""
    body = GatewayError(error_msg=message, error_code=code, request_id=request_id)
    headers = () if retry_after_s is None else (("Retry-After", str(retry_after_s)),)
    return Refusal(status=status, body=msgspec.json.encode(body), headers=headers)


def over_rate_refusal(error: OverRateError, request_id: str) -> Refusal:
    """Make the gateway's answer to too many requests."""
    message = f"The throttling threshold has been reached: {error}"
    return gateway_refusal(
        429, "APIGW.0308", message, request_id, retry_after_s=error.retry_after_s
    )


def headers_of(refusal: Refusal) -> list[tuple[bytes, bytes]]:
    """The header fields of an error, as ASGI and h11 want them."""
    return [
        (b"content-type", b"application/json"),
        (b"content-length", str(len(refusal.body)).encode()),
        *((name.lower().encode(), value.encode()) for name, value in refusal.headers),
    ]


def headers_of_all(request_id: str) -> list[tuple[bytes, bytes]]:
    """The header fields that every answer has."""
    return [(b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")]


def hss_refusal(code: str, message: str, *, status: int = 400) -> Refusal:
    """Make an error as HSS words it: three keys, and 400 whatever the caller's mistake is."""
    body = HssError(error_code=code, error_description=message, error_msg=message)
    return Refusal(status=status, body=msgspec.json.encode(body))
