"""The bodies of errors: the gateway's, which come before any service, and HSS's own."""

from __future__ import annotations

import msgspec

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


def gateway_refusal(status: int, code: str, message: str, request_id: str) -> Refusal:
    """Make an error as the gateway words it."""
    body = GatewayError(error_msg=message, error_code=code, request_id=request_id)
    return Refusal(status=status, body=msgspec.json.encode(body))


def hss_refusal(code: str, message: str, *, status: int = 400) -> Refusal:
    """Make an error as HSS words it: three keys, and 400 whatever the caller's mistake is."""
    body = HssError(error_code=code, error_description=message, error_msg=message)
    return Refusal(status=status, body=msgspec.json.encode(body))
