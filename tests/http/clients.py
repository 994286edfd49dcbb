"""The official SDK, pointed at a server under test."""

from __future__ import annotations

import json
import urllib.error
import urllib.request


def sdk_client(house, tenant, **changes):
    return _client(house, tenant, asynchronous=False, **changes)


def async_sdk_client(house, tenant, **changes):
    return _client(house, tenant, asynchronous=True, **changes)


def _client(house, tenant, *, asynchronous, access_key=None, secret_key=None, project_id=None):
    from huaweicloudsdkcore.auth.credentials import BasicCredentials
    from huaweicloudsdkhss.v5 import HssAsyncClient, HssClient

    kind = HssAsyncClient if asynchronous else HssClient
    credentials = BasicCredentials(
        access_key or tenant.credential.access_key,
        secret_key or tenant.credential.secret_key,
        project_id or tenant.id,
    )
    return kind.new_builder().with_credentials(credentials).with_endpoint(house.url).build()


def call(house, path, *, token=None, method="GET", body=None, headers=None):
    """Send a plain request; return status, headers and decoded body."""
    request = urllib.request.Request(house.url + path, data=body, method=method)
    for name, value in (headers or {}).items():
        request.add_header(name, value)
    if token is not None:
        request.add_header("X-Auth-Token", token)
    if body is not None and not request.has_header("Content-type"):
        request.add_header("Content-Type", "application/json")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.headers, _decoded(answer.read())
    except urllib.error.HTTPError as refusal:
        with refusal:
            return refusal.code, refusal.headers, _decoded(refusal.read())


def _decoded(body):
    return json.loads(body) if body else None
