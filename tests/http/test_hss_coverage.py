"""All operations of the SDK that have to do with images get an answer, and the docs say which."""

import pytest
from clients import call, sdk_client
from hss_coverage import PAGE, coverage, handlers, nameless, page, sdk_operations

from wharfinger.http.hss.operations import OPERATIONS

pytestmark = pytest.mark.filterwarnings("ignore:Method .* is deprecated:DeprecationWarning")


def refused_operations():
    return [operation for operation, since in coverage() if since is None]


def test_our_table_of_operations_is_the_sdks():
    theirs = {(one.name, one.method, one.path) for one in sdk_operations()}

    assert len(theirs) == 82
    assert {tuple(one) for one in OPERATIONS} == theirs


def test_every_operation_is_routed_and_nothing_else_is():
    known = {(one.method, nameless(one.path)) for one in OPERATIONS}

    assert set(handlers()) == known


def test_the_page_in_the_docs_is_the_table():
    assert PAGE.read_text("utf-8") == page(coverage()), "run: make coverage-hss WRITE=1"


def test_the_sdk_is_told_of_each_operation_that_is_not_offered(house, tenant):
    from huaweicloudsdkcore.exceptions.exceptions import ClientRequestException
    from huaweicloudsdkhss import v5

    client = sdk_client(house, tenant)
    refused = refused_operations()

    assert refused
    for one in refused:
        request = getattr(v5, f"{one.name}Request")()
        for parameter in request.attribute_map:
            if f"{{{parameter}}}" in one.path:
                setattr(request, parameter, "5f0c")
        with pytest.raises(ClientRequestException) as answer:
            getattr(client, one.function)(request)
        seen = answer.value
        assert (seen.status_code, seen.error_code) == (400, "HSS.0011"), one
        assert seen.error_msg.startswith(f"{one.name} is not offered by this service"), one


def test_a_stranger_is_told_nothing(house, tenant):
    for one in refused_operations():
        path = one.path.replace("{", "").replace("}", "")
        status, _, body = call(house, f"/v5/{tenant.id}/{path}", method=one.method)
        assert (status, body["error_code"]) == (401, "APIGW.0301"), one

    path = "image/5f0c/apps"
    status, _, body = call(house, f"/v5/another/{path}", token=tenant.token)
    assert (status, body["error_code"]) == (400, "HSS.0013")
