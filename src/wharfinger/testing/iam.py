"""IAM of the upstream: tokens, projects, and who a request comes from."""

from __future__ import annotations

import dataclasses
import datetime as dt
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import msgspec

from wharfinger.testing.content import wire_time
from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.model import PLANTED, Account, World
from wharfinger.testing.signing import ALGORITHM, SignatureRefusedError, verify_signature


class NotAuthenticError(Exception):
    """The gateway refuses the credentials; ``code`` is ``APIGW.0301`` or ``APIGW.0307``."""

    def __init__(self, detail: str, *, code: str = "APIGW.0301") -> None:
        super().__init__(detail)
        self.code = code


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token of an account, until a time of the real clock."""

    text: str = field(repr=False)
    account: str
    issued: dt.datetime
    expires: dt.datetime


class Iam:
    """Issues tokens and tells which account a request comes from, by the real clock.

    Attributes:
        token_lifetime_s: of tokens issued from now on, in seconds.
    """

    def __init__(self, world: World, *, token_lifetime_s: float = 24 * 3600) -> None:
        self.token_lifetime_s = token_lifetime_s
        self._world = world
        self._tokens: dict[str, IssuedToken] = {}

    def issue(self, account: str = "", *, lifetime_s: float | None = None) -> str:
        """A token of the account (by default of the world's home), without asking over HTTP."""
        owner = self._world.account(account or self._world.home.name)
        now = dt.datetime.now(dt.UTC)
        lasts = self.token_lifetime_s if lifetime_s is None else lifetime_s
        text = (
            f"MII{PLANTED}"
            + hashlib.sha512(f"{owner.name} {len(self._tokens)} {now}".encode()).hexdigest()
        )
        self._tokens[text] = IssuedToken(
            text=text, account=owner.name, issued=now, expires=now + dt.timedelta(seconds=lasts)
        )
        return text

    def revoke_all(self) -> None:
        """Let every token issued so far be expired, as after a change of password."""
        beginning = dt.datetime.fromtimestamp(0, dt.UTC)
        for text, token in self._tokens.items():
            self._tokens[text] = dataclasses.replace(token, expires=beginning)

    def account_of(self, asked: Asked) -> Account:
        """Who asks, by a signature, else by a token.

        Raises:
            NotAuthenticError: neither is there and right.
        """
        if asked.headers.get("authorization", "").startswith(ALGORITHM):
            return self._signer(asked)
        token = asked.headers.get("x-auth-token")
        if token is None:
            raise NotAuthenticError("Incorrect IAM authentication information: Unauthorized")
        return self._world.account(self._live(token).account)

    def respond(self, asked: Asked) -> Answer | None:
        """The answer to a request for IAM; ``None`` for a path that is not IAM's."""
        routes: dict[str, Callable[[Asked], Answer]] = {
            "GET /v3": self._version,
            "POST /v3/auth/tokens": self._create_token,
            "GET /v3/auth/tokens": self._show_token,
            "HEAD /v3/auth/tokens": self._show_token,
            "GET /v3/projects": self._projects,
            "GET /v3/auth/projects": self._projects,
            "GET /v3/auth/domains": self._domains,
        }
        route = routes.get(f"{asked.method} {asked.path.rstrip('/')}")
        return None if route is None else route(asked)

    # --- credentials ------------------------------------------------------------------------

    def _signer(self, asked: Asked) -> Account:
        keys = self._world.keys

        def secret_of(access_key: str) -> str | None:
            return keys[access_key].secret_key if access_key in keys else None

        try:
            access_key = verify_signature(asked, secret_of, now=dt.datetime.now(dt.UTC))
        except SignatureRefusedError as refused:
            raise NotAuthenticError(
                f"Incorrect IAM authentication information: {refused}"
            ) from refused
        return self._world.account(keys[access_key].account)

    def _live(self, text: str) -> IssuedToken:
        token = self._tokens.get(text)
        if token is None:
            raise NotAuthenticError("Incorrect IAM authentication information: decrypt token fail")
        if token.expires <= dt.datetime.now(dt.UTC):
            raise NotAuthenticError("The token must be updated.", code="APIGW.0307")
        return token

    # --- routes -----------------------------------------------------------------------------

    def _version(self, asked: Asked) -> Answer:
        link = [{"rel": "self", "href": f"http://{asked.headers.get('host', '')}/v3/"}]
        version = {"id": "v3.6", "status": "stable", "updated": "2016-04-04T00:00:00Z"}
        return json_answer({"version": {**version, "links": link, "media-types": []}})

    def _create_token(self, asked: Asked) -> Answer:
        try:
            wish = msgspec.json.decode(asked.body, type=_TokenWish)
        except msgspec.MsgspecError as error:
            return _iam_error(400, "IAM.0011", f"Request body is invalid: {error}")
        user = wish.auth.identity.password.user
        account = self._world.accounts.get(user.domain.name or user.name)
        if account is None or user.name != account.name or user.password != account.password:
            return _iam_error(401, "IAM.0062", "Incorrect username or password.")
        scope = wish.auth.scope
        project = None if scope is None else scope.project
        if project is not None and not self._names_project(project, account):
            return _iam_error(401, "IAM.0001", "The project of the scope does not exist.")
        token = self._tokens[self.issue(account.name)]
        shown = self._shown(token, asked, in_project=project is not None)
        return json_answer(shown, status=201, X_Subject_Token=token.text)

    def _names_project(self, wish: _Named, account: Account) -> bool:
        return (wish.id or account.project_id) == account.project_id and (
            wish.name or self._world.region
        ) == self._world.region

    def _show_token(self, asked: Asked) -> Answer:
        self.account_of(asked)
        token = self._tokens.get(asked.headers.get("x-subject-token", ""))
        if token is None:
            return _iam_error(404, "IAM.0004", "Could not find token.")
        shown = self._shown(token, asked, in_project=True)
        return json_answer(shown, X_Subject_Token=token.text)

    def _shown(self, token: IssuedToken, asked: Asked, *, in_project: bool) -> dict[str, object]:
        account = self._world.account(token.account)
        domain = {"id": account.domain_id, "name": account.name}
        scope: dict[str, object] = {"domain": domain}
        if in_project:
            scope = {
                "project": {"id": account.project_id, "name": self._world.region, "domain": domain}
            }
        return {
            "token": {
                "methods": ["password"],
                "issued_at": wire_time(token.issued),
                "expires_at": wire_time(token.expires),
                "user": {
                    "id": account.user_id,
                    "name": account.name,
                    "domain": domain,
                    "password_expires_at": "",
                },
                "roles": [{"id": "0", "name": "te_admin"}],
                "catalog": [self._swr_service(asked)],
                **scope,
            }
        }

    def _swr_service(self, asked: Asked) -> dict[str, object]:
        url = f"http://{asked.headers.get('host', '')}/v2"
        region = self._world.region
        endpoint = {"id": "swr", "interface": "public", "region": region, "region_id": region}
        return {
            "id": "swr",
            "type": "swrv2",
            "name": "swrv2",
            "endpoints": [{**endpoint, "url": url}],
        }

    def _projects(self, asked: Asked) -> Answer:
        account = self.account_of(asked)
        name = parse_qs(asked.query).get("name", [self._world.region])[0]
        project = {
            "id": account.project_id,
            "name": self._world.region,
            "domain_id": account.domain_id,
            "parent_id": account.domain_id,
            "is_domain": False,
            "enabled": True,
            "description": "",
        }
        found = [project] if name == self._world.region else []
        return json_answer({"projects": found, "links": {"self": asked.target}})

    def _domains(self, asked: Asked) -> Answer:
        account = self.account_of(asked)
        domain = {"id": account.domain_id, "name": account.name, "enabled": True}
        return json_answer({"domains": [domain], "links": {"self": asked.target}})


class _Named(msgspec.Struct):
    id: str = ""
    name: str = ""


class _User(msgspec.Struct):
    password: str
    name: str
    domain: _Named = msgspec.field(default_factory=_Named)


class _Password(msgspec.Struct):
    user: _User


class _Identity(msgspec.Struct):
    methods: list[str]
    password: _Password


class _Scope(msgspec.Struct):
    project: _Named | None = None
    domain: _Named | None = None


class _Auth(msgspec.Struct):
    identity: _Identity
    scope: _Scope | None = None


class _TokenWish(msgspec.Struct):
    auth: _Auth


def _iam_error(status: int, code: str, message: str) -> Answer:
    return json_answer({"error_code": code, "error_msg": message}, status=status)
