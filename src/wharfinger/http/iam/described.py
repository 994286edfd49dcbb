"""What OpenAPI is told of the routes of IAM v3. See ``wharfinger.http.described``."""

from __future__ import annotations

from wharfinger.http.answers import GatewayError, HssError
from wharfinger.http.described import Api, Operation, Parameter, any_text
from wharfinger.http.iam.wire import IamError, TemporaryKeyRequest, TokenRequest

_SUBJECT = Parameter(
    name="X-Subject-Token",
    schema={"type": "string", "minLength": 1},
    required=True,
    place="header",
    description="the token that is spoken of",
)
_NOCATALOG = any_text("nocatalog", "given at all, it leaves the catalog out")

_DESCRIBED = {
    "show_version": Operation(credentials=()),
    "create_token": Operation(
        query=(_NOCATALOG,),
        body=TokenRequest,
        answer_headers=("X-Subject-Token",),
        credentials=(),
    ),
    "show_token": Operation(
        query=(_NOCATALOG,), headers=(_SUBJECT,), answer_headers=("X-Subject-Token",)
    ),
    "revoke_token": Operation(headers=(_SUBJECT,)),
    "list_projects": Operation(query=(any_text("name", "a project's name, or a region's"),)),
    "create_temporary_key": Operation(body=TemporaryKeyRequest, credentials=("token", "")),
}

IAM = Api(
    tag="iam",
    prefix="/v3",
    description="IAM v3, as far as logging in needs it.",
    errors={
        **dict.fromkeys((400, 401, 403, 404), (IamError, GatewayError)),
        500: (HssError,),
        503: (IamError, HssError, GatewayError),
    },
    described=_DESCRIBED,
)
