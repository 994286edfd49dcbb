"""The routes of IAM v3: what keystoneauth, openstacksdk and the cloud's SDKs log in with."""

from __future__ import annotations

import datetime as dt

from litestar import Response, Router, delete, get, post

from wharfinger.domain.errors import (
    HiddenError,
    InvalidParameterError,
    NotFoundError,
    WharfingerError,
)
from wharfinger.domain.model import Caller
from wharfinger.http.authentication import authenticated, authenticated_by_token
from wharfinger.http.failures import AnyRequest
from wharfinger.http.hss.call import read_body
from wharfinger.http.iam.failures import answer_iam_failure
from wharfinger.http.iam.wire import (
    ApiVersion,
    CatalogEntry,
    Endpoint,
    KeystoneDomain,
    KeystoneDomains,
    KeystoneProject,
    KeystoneProjects,
    Links,
    MediaType,
    Reference,
    ReferenceInDomain,
    TemporaryKey,
    TemporaryKeyAnswer,
    TemporaryKeyRequest,
    TokenAnswer,
    TokenBody,
    TokenRequest,
    TokenUser,
    VersionAnswer,
    wire_time,
)
from wharfinger.http.origin import origin_of, own_address
from wharfinger.http.parameters import Parameters
from wharfinger.http.services import Services, TheServices
from wharfinger.identity.login import chosen_by_name
from wharfinger.store.callers import KnownToken, ProjectRef

TOKEN_HEADER = "X-Subject-Token"  # noqa: S105 - a name
SHORTEST_KEY_S, LONGEST_KEY_S = 900, 86400
_NOCATALOG = "nocatalog"
# Wharfinger answers for every region; clients that filter by region ask for the project's name.
_ANY_REGION = "RegionOne"


@get("/v3")
async def show_version(request: AnyRequest, services: TheServices) -> VersionAnswer:
    """Say which version this is; needs no credentials."""
    return VersionAnswer(version=iam_version(request, services))


@post("/v3/auth/tokens", status_code=201)
async def create_token(request: AnyRequest, services: TheServices) -> Response[TokenAnswer]:
    """Answer ``KeystoneCreateUserTokenByPassword``."""
    wish = read_body(await request.body(), TokenRequest).wish()
    origin = origin_of(request.scope, services.proxies)
    made = await services.login.log_in(wish, origin=origin)
    known = await services.authenticator.find_token(made.token.token)
    if known is None:  # Nobody can have taken it back yet, but the account may just be gone.
        raise NotFoundError("Could not find token.")
    body = _token_body(request, services, known)
    return Response(TokenAnswer(token=body), headers={TOKEN_HEADER: made.token.token})


@get("/v3/auth/tokens")
async def show_token(request: AnyRequest, services: TheServices) -> Response[TokenAnswer]:
    """Validate a token: one's own, or with ``iam:tokens:get`` another one of the account."""
    token, known, _ = await _subject(request, services, "iam:tokens:get")
    body = _token_body(request, services, known)
    return Response(TokenAnswer(token=body), headers={TOKEN_HEADER: token})


@delete("/v3/auth/tokens", status_code=204)
async def revoke_token(request: AnyRequest, services: TheServices) -> None:
    """Take a token back: one's own, or with ``iam:tokens:delete`` another one of the account."""
    token, known, caller = await _subject(request, services, "iam:tokens:delete")
    if known.issuer:
        raise NotFoundError("Could not find token.")
    await services.callers.revoke_token(token, known, by=caller)


@get(["/v3/projects", "/v3/auth/projects"])
async def list_projects(request: AnyRequest, services: TheServices) -> KeystoneProjects:
    """Answer ``KeystoneListProjects``, by which an SDK finds the id of its project."""
    caller = await authenticated(request, services)
    found = await _projects_of(caller, services)
    name = Parameters(request.scope["query_string"]).raw("name")
    if name is not None:
        own = [project for project in found if project.id == caller.project_id]
        found = chosen_by_name(found, name) or chosen_by_name(own, name)
    return KeystoneProjects(
        projects=[_project(project) for project in found],
        links=Links(self_=own_address(request.scope, services.proxies) + request.scope["path"]),
    )


@get(["/v3/auth/domains", "/v3/domains"])
async def list_domains(request: AnyRequest, services: TheServices) -> KeystoneDomains:
    """Answer ``KeystoneListAuthDomains``: the caller's account."""
    caller = await authenticated(request, services)
    account = KeystoneDomain(id=caller.account_id, name=caller.account_id)
    address = own_address(request.scope, services.proxies) + request.scope["path"]
    return KeystoneDomains(domains=[account], links=Links(self_=address))


@post("/v3.0/OS-CREDENTIAL/securitytokens", status_code=201)
async def create_temporary_key(request: AnyRequest, services: TheServices) -> TemporaryKeyAnswer:
    """Answer ``CreateTemporaryAccessKeyByToken``."""
    wish = read_body(await request.body(), TemporaryKeyRequest).auth.identity
    if wish.methods != ["token"] or wish.policy is not None:
        raise InvalidParameterError(
            "auth.identity", 'must have the methods ["token"] and no policy'
        )
    given = wish.token.id if wish.token else None
    seconds = (wish.token.duration_seconds if wish.token else None) or SHORTEST_KEY_S
    if not SHORTEST_KEY_S <= seconds <= LONGEST_KEY_S:
        raise InvalidParameterError(
            "duration_seconds", f"must be an integer from {SHORTEST_KEY_S} to {LONGEST_KEY_S}"
        )
    # Not by a temporary key: it would outlive itself.
    token, caller = await authenticated_by_token(request, services, given)
    known = await services.authenticator.find_token(token)
    if known is None or known.issuer or known.scope != "project":
        raise InvalidParameterError("token", "must be one that we issued, and scoped to a project")
    made = await services.callers.create_temporary_credential(
        known.project_id, known.user_id, dt.timedelta(seconds=seconds), by=caller
    )
    if made.security_token is None or made.expires_at is None:
        raise AssertionError("a temporary key has a token and an end")
    key = TemporaryKey(
        access=made.access_key,
        secret=made.secret_key,
        securitytoken=made.security_token,
        expires_at=wire_time(made.expires_at),
    )
    return TemporaryKeyAnswer(credential=key)


def make_iam() -> Router:
    """The routes with what they have in common."""
    return Router(
        path="/",
        route_handlers=[
            show_version,
            create_token,
            show_token,
            revoke_token,
            list_projects,
            list_domains,
            create_temporary_key,
        ],
        exception_handlers={
            WharfingerError: answer_iam_failure,
            Exception: answer_iam_failure,
        },
    )


def iam_version(request: AnyRequest, services: Services) -> ApiVersion:
    """The one version there is."""
    address = own_address(request.scope, services.proxies)
    return ApiVersion(
        id="v3.14",
        status="stable",
        updated="2020-04-07T00:00:00Z",
        links=[{"rel": "self", "href": f"{address}/v3/"}],
        media_types=[
            MediaType(base="application/json", type="application/vnd.openstack.identity-v3+json")
        ],
    )


async def _subject(
    request: AnyRequest, services: Services, action: str
) -> tuple[str, KnownToken, Caller]:
    caller = await authenticated(request, services)
    token = request.headers.get(TOKEN_HEADER, "")
    if not token:
        raise InvalidParameterError(TOKEN_HEADER, "is required")
    known = await services.authenticator.find_token(token)
    is_own = token == request.headers.get("X-Auth-Token")
    if known is None or not services.authenticator.is_live(known):
        raise NotFoundError("Could not find token.")
    if not is_own:
        _check_may_see(caller, known, action)
    return token, known, caller


def _check_may_see(caller: Caller, known: KnownToken, action: str) -> None:
    """Another project's token cannot be told from one that does not exist.

    A caller whose token is of the account sees those of all its projects.
    """
    if known.account_id != caller.account_id:
        raise HiddenError("Could not find token.")
    if caller.user_id and known.user_id == caller.user_id:
        return
    if caller.project_id not in ("", known.project_id):
        raise HiddenError("Could not find token.")
    caller.require(action)


async def _projects_of(caller: Caller, services: Services) -> list[ProjectRef]:
    """A key opens one project; a user, or an account's token, may choose among several."""
    if caller.user_id or not caller.project_id:
        found = await services.callers.projects_of(caller.account_id, caller.user_id or None)
        if found:
            return found
    return [
        ProjectRef(id=caller.project_id, name=caller.project_name, account_id=caller.account_id)
    ]


def _project(project: ProjectRef) -> KeystoneProject:
    return KeystoneProject(
        id=project.id,
        name=project.name,
        domain_id=project.account_id,
        parent_id=project.account_id,
    )


def _token_body(request: AnyRequest, services: Services, known: KnownToken) -> TokenBody:
    account = Reference(id=known.account_id, name=known.account_id)
    project = ReferenceInDomain(id=known.project_id, name=known.project_name, domain=account)
    user = TokenUser(
        id=known.user_id or known.account_id,
        name=known.user_name or known.account_id,
        domain=account,
    )
    catalog = None
    if (
        Parameters(request.scope["query_string"]).raw(_NOCATALOG) is None
        and known.scope != "unscoped"
    ):
        catalog = _catalog(own_address(request.scope, services.proxies), known)
    return TokenBody(
        methods=["password"],
        issued_at=wire_time(known.issued_at or known.expires_at),
        expires_at=wire_time(known.expires_at),
        user=user,
        roles=[Reference(id=name, name=name) for name in known.roles],
        project=project if known.scope == "project" else None,
        domain=account if known.scope == "domain" else None,
        catalog=catalog,
    )


def _catalog(address: str, known: KnownToken) -> list[CatalogEntry]:
    """Our own endpoints, each at the address that the caller has just reached us at."""
    services = {"identity": "keystone"}
    paths = {"identity": "/v3"}
    if known.scope == "project":
        services |= {"hss": "hss", "wharfinger": "wharfinger"}
        paths |= {
            "hss": f"/v5/{known.project_id}",
            "wharfinger": f"/api/v1/projects/{known.project_id}",
        }
    return [
        CatalogEntry(
            id=kind,
            type=kind,
            name=name,
            endpoints=[
                Endpoint(
                    id=kind,
                    url=address + paths[kind],
                    region=known.project_name if known.scope == "project" else _ANY_REGION,
                    region_id=known.project_name if known.scope == "project" else _ANY_REGION,
                )
            ],
        )
        for kind, name in services.items()
    ]
