"""An OCI distribution registry over a world, for what a real registry cannot be made to do."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
import secrets
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import parse_qsl, quote, unquote, urlencode

from wharfinger.testing.content import OCI_INDEX, Content, digest_of, index_of
from wharfinger.testing.faults import Answer, Asked, json_answer
from wharfinger.testing.model import PLANTED, Repository, UnknownNameError, World
from wharfinger.testing.server import LoopbackServer

_SCHEMA1 = "application/vnd.docker.distribution.manifest.v1+prettyjws"

LinkStyle = Literal[
    "relative",  # </v2/_catalog?last=b&n=2>; rel="next"
    "absolute",  # <http://127.0.0.1:port/v2/…>; rel="next"
    "other-host",  # as absolute, but to OciBehaviour.other_host
    "bare",  # /v2/…; rel="next", without the angle brackets
    "unquoted",  # <…>; rel=next
    "several",  # <…>; rel="prev", <…>; rel="next", <…>; rel="last"
    "cursor",  # <…?next=OPAQUE>; rel="next" (see cursor_name), where a name is refused
    "query-only",  # <?n=2&last=b>; rel="next"
    "absent",  # no Link, although there is more
    "loop",  # every page points to itself
    "cycle",  # the last page points to the first again
]


@dataclass(kw_only=True)
class OciBehaviour:
    """How the registry behaves. The defaults are those of an honest one.

    Attributes:
        auth: ``none``; ``basic``; ``bearer``, a challenge and a token endpoint at ``/token``.
        username: for basic and for the token endpoint.
        password: likewise.
        anonymous_tokens: let the token endpoint serve callers without credentials.
        realm_query: text behind the ``?`` of the challenge's realm.
        realm: another realm altogether, such as an address inside a network.
        token_path: where the token endpoint is.
        service: the name the registry gives itself in its challenge.
        names_scope: whether the challenge says which scope is missing.
        offers_basic: offer basic authentication in front of the bearer challenge, in one header.
        basic_challenge: what is offered for basic authentication.
        refused_scopes: scopes for which the token endpoint itself says 403.
        refresh_token: what the token endpoint takes by POST for ``grant_type=refresh_token``.
        entra_token: what ``/oauth2/exchange`` gives that refresh token for.
        root: the path in front of ``/v2/``.
        link_root: what stands there in links instead.
        token_field: the name under which the token is given.
        expires_in: what the token endpoint claims, in seconds; ``None`` omits it.
        token_lifetime_s: how long a token really lives.
        denied_scopes: scopes a token is issued without.
        default_page: rows of a page when ``n`` is not given.
        page_cap: the largest page, whatever ``n`` says.
        refuse_n_above: answer 400 ``PAGINATION_NUMBER_INVALID`` to a larger ``n``.
        ignore_n: return everything at once.
        link: how the next page is told.
        cursor_name: the parameter of the link style ``cursor``.
        google: lists of tags hold Google's ``child`` and ``manifest``, too.
        other_host: ``host:port`` for the link style ``other-host``.
        catalog_status: answer the catalog with this status instead.
        ghosts: names the catalog lists and whose tags are 404 ``NAME_UNKNOWN``.
        null_lists: ``"tags": null`` and ``"repositories": null`` for empty lists.
        missing_lists: leave the key out where the list is empty.
        shuffled: lists in no order.
        head_status: answer every HEAD of a manifest with this status.
        digest_header: send ``Docker-Content-Digest``.
        head_length: send ``Content-Length`` of the manifest to a HEAD.
        accept: what happens to a manifest type the caller does not accept: ``ignore`` sends it all
            the same, ``strict`` says 404, ``schema1`` converts, which gives another digest.
        accept_limit: longest ``Accept`` header in bytes before a 400; 0 for any.
        referrers: list what belongs to a digest; without, such a list is 404.
        missing: digests that are 404 ``MANIFEST_UNKNOWN`` or ``BLOB_UNKNOWN``.
    """

    auth: Literal["none", "basic", "bearer"] = "none"
    username: str = "reader"
    password: str = field(default=f"reader-{PLANTED}-Password-1", repr=False)
    anonymous_tokens: bool = False
    realm_query: str = ""
    realm: str = ""
    token_path: str = "/token"  # noqa: S105 - a path
    service: str = "registry.example"
    names_scope: bool = True
    offers_basic: bool = False
    basic_challenge: str = 'Basic realm="Registry"'
    refused_scopes: set[str] = field(default_factory=set)
    refresh_token: str = field(default="", repr=False)
    entra_token: str = field(default="", repr=False)
    root: str = ""
    link_root: str | None = None
    token_field: Literal["token", "access_token"] = "token"  # noqa: S105 - the name of a field
    expires_in: int | None = 300
    token_lifetime_s: float = 300.0
    denied_scopes: set[str] = field(default_factory=set)
    default_page: int = 100
    page_cap: int = 1000
    refuse_n_above: int | None = None
    ignore_n: bool = False
    link: LinkStyle = "relative"
    cursor_name: str = "next"
    google: bool = False
    other_host: str = "registry.invalid"
    catalog_status: int | None = None
    ghosts: set[str] = field(default_factory=set)
    null_lists: bool = False
    missing_lists: bool = False
    shuffled: bool = False
    head_status: int | None = None
    digest_header: bool = True
    head_length: bool = True
    accept: Literal["ignore", "strict", "schema1"] = "ignore"
    accept_limit: int = 0
    referrers: bool = True
    missing: set[str] = field(default_factory=set)


@dataclass(slots=True, kw_only=True)
class _Token:
    scopes: frozenset[str]
    ends: float


class RefusedError(Exception):
    """The registry refuses the request: a status, a code, a message, and what it asks for."""

    def __init__(self, status: int, code: str, message: str, *, challenge: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.code = code
        self.challenge = challenge


class OciUpstream(LoopbackServer):
    """The distribution API over the repositories of the world's home account.

    Attributes:
        world: what it holds; ``Repository.untagged`` (by digest) is served by digest alone.
        behaviour: change it at any time.
        tokens_issued: how many tokens the endpoint has given out.
    """

    def __init__(
        self,
        world: World | None = None,
        behaviour: OciBehaviour | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__(host=host, port=port)
        self.world = world or World()
        self.behaviour = behaviour or OciBehaviour()
        self.tokens_issued = 0
        self._tokens: dict[str, _Token] = {}

    def expire_tokens(self) -> None:
        """Let every token given out so far be refused from now on."""
        self._tokens.clear()

    def respond(self, asked: Asked) -> Answer:
        """The true answer to a request."""
        with self.world.lock:
            try:
                return self._route(asked)
            except RefusedError as refused:
                return self._refusal(refused)

    def _refusal(self, refused: RefusedError) -> Answer:
        row = {"code": refused.code, "message": str(refused), "detail": None}
        answer = json_answer({"errors": [row]}, status=refused.status)
        if refused.challenge:
            answer = answer.with_headers(WWW_Authenticate=refused.challenge)
        return answer.with_headers(Docker_Distribution_Api_Version="registry/2.0")

    def _route(self, asked: Asked) -> Answer:
        path = unquote(asked.path)
        if (tokens := self._tokens_at(path, asked.method)) is not None:
            return tokens(asked)
        if not path.startswith(f"{self.behaviour.root}/v2"):
            raise RefusedError(404, "UNSUPPORTED", "no such route")
        path = path.removeprefix(self.behaviour.root)
        if path in {"/v2", "/v2/"}:
            self._authorise(asked, None)
            return json_answer({}, Docker_Distribution_Api_Version="registry/2.0")
        if path == "/v2/_catalog":
            return self._catalog(asked)
        found = re.fullmatch(r"/v2/(.+)/(tags/list|(?:manifests|blobs|referrers)/[^/]+)", path)
        if found is None:
            raise RefusedError(404, "UNSUPPORTED", "no such route")
        name, rest = found.groups()
        self._authorise(asked, f"repository:{name}:pull")
        if rest == "tags/list":
            return self._tags(asked, name)
        kind, _, reference = rest.partition("/")
        repository = self._repository(name)
        if kind == "manifests":
            return self._manifest(asked, repository, reference)
        return (self._blob if kind == "blobs" else self._referrers)(repository, reference)

    # --- who ------------------------------------------------------------------------------

    def _authorise(self, asked: Asked, scope: str | None) -> None:
        if self.behaviour.auth == "none":
            return
        given = asked.headers.get("authorization", "")
        if self.behaviour.auth == "basic":
            if not self._is_basic(given):
                raise RefusedError(
                    401,
                    "UNAUTHORIZED",
                    "login required",
                    challenge=self.behaviour.basic_challenge,
                )
            return
        token = self._tokens.get(given.removeprefix("Bearer "))
        if token is None or token.ends <= time.monotonic():
            raise self._challenge(scope, "invalid_token" if given else "")
        if scope is not None and scope not in token.scopes:
            raise self._challenge(scope, "insufficient_scope")

    def _is_basic(self, given: str) -> bool:
        try:
            raw = base64.b64decode(given.removeprefix("Basic "), validate=True)
        except binascii.Error:
            return False
        wanted = f"{self.behaviour.username}:{self.behaviour.password}".encode()
        return given.startswith("Basic ") and hmac.compare_digest(raw, wanted)

    def _challenge(self, scope: str | None, error: str) -> RefusedError:
        own = self.behaviour
        realm = own.realm or f"{self.url}{own.token_path}"
        if own.realm_query:
            realm += "?" + own.realm_query
        parts = [f'realm="{realm}"', f'service="{own.service}"']
        parts += [f'scope="{scope}"'] if scope and own.names_scope else []
        parts += [f'error="{error}"'] if error else []
        challenge = "Bearer " + ",".join(parts)
        if own.offers_basic:
            challenge = f"{own.basic_challenge}, {challenge}"
        return RefusedError(401, "UNAUTHORIZED", "authentication required", challenge=challenge)

    def _tokens_at(self, path: str, method: str) -> Callable[[Asked], Answer] | None:
        """What gives tokens there, if anything does."""
        if path == self.behaviour.token_path:
            return self._refresh if method == "POST" else self._issue
        return self._exchange_token if path == "/oauth2/exchange" else None

    def _issue(self, asked: Asked) -> Answer:
        given = asked.headers.get("authorization", "")
        if not self._is_basic(given) and not (self.behaviour.anonymous_tokens and not given):
            raise RefusedError(401, "UNAUTHORIZED", "incorrect username or password")
        return self._given([v for k, v in parse_qsl(asked.query) if k == "scope"], given)

    def _refresh(self, asked: Asked) -> Answer:
        form = dict(parse_qsl(asked.body.decode()))
        right = form.get("grant_type") == "refresh_token" and form.get("client_id")
        if not right or form.get("refresh_token") != (self.behaviour.refresh_token or None):
            raise RefusedError(401, "UNAUTHORIZED", "incorrect refresh token")
        return self._given([form.get("scope", "")])

    def _exchange_token(self, asked: Asked) -> Answer:
        form = dict(parse_qsl(asked.body.decode()))
        right = form.get("grant_type") == "access_token"
        right = right and form.get("service") == self.behaviour.service
        if not right or form.get("access_token") != (self.behaviour.entra_token or None):
            raise RefusedError(401, "UNAUTHORIZED", "the token is none of this tenant's")
        return json_answer({"refresh_token": self.behaviour.refresh_token})

    def _given(self, wanted: list[str], given: str = "") -> Answer:
        scopes = {scope for value in wanted for scope in value.split()}
        if scopes & self.behaviour.refused_scopes:
            raise RefusedError(403, "DENIED", "access forbidden")
        text = PLANTED + secrets.token_urlsafe(24)
        self._tokens[text] = _Token(
            scopes=frozenset(self._granted(given, scopes)),
            ends=time.monotonic() + self.behaviour.token_lifetime_s,
        )
        self.tokens_issued += 1
        body: dict[str, object] = {self.behaviour.token_field: text}
        if self.behaviour.expires_in is not None:
            body["expires_in"] = self.behaviour.expires_in
        return json_answer(body)

    def _granted(self, given: str, scopes: set[str]) -> set[str]:  # noqa: ARG002 - for dialects
        """The scopes that whoever sent this ``Authorization`` gets."""
        return scopes - self.behaviour.denied_scopes

    # --- lists ----------------------------------------------------------------------------

    def _catalog(self, asked: Asked) -> Answer:
        if self.behaviour.catalog_status is not None:
            code = "DENIED" if self.behaviour.catalog_status == 403 else "UNSUPPORTED"
            raise RefusedError(self.behaviour.catalog_status, code, "no catalog here")
        self._authorise(asked, "registry:catalog:*")
        names = {r.path for r in self.world.owned()} | self.behaviour.ghosts
        page, link = self._page(asked, sorted(names))
        return self._listed({}, "repositories", page, link)

    def _tags(self, asked: Asked, name: str) -> Answer:
        if name in self.behaviour.ghosts:
            raise RefusedError(404, "NAME_UNKNOWN", "repository name not known to registry")
        page, link = self._page(asked, sorted(self._repository(name).tags))
        body: dict[str, object] = {"name": name}
        if self.behaviour.google:
            body |= self._as_google_has_it(name)
        return self._listed(body, "tags", page, link)

    def _as_google_has_it(self, name: str) -> dict[str, object]:
        """The repositories below, and what is behind each digest."""
        below = {r.path for r in self.world.owned() if r.path.startswith(f"{name}/")}
        manifests = {
            tag.content.digest: {
                "imageSizeBytes": str(tag.content.size),
                "mediaType": tag.content.media_type,
                "tag": [one.name for one in self.world.tags(name) if one.content is tag.content],
            }
            for tag in self.world.tags(name)
        }
        child = sorted({path.removeprefix(f"{name}/").partition("/")[0] for path in below})
        return {"child": child, "manifest": manifests}

    def _listed(self, body: dict[str, object], key: str, page: list[str], link: str) -> Answer:
        if self.behaviour.shuffled:
            page = sorted(page, key=lambda name: digest_of(name.encode()))
        if page or not (self.behaviour.null_lists or self.behaviour.missing_lists):
            body[key] = page
        elif self.behaviour.null_lists:
            body[key] = None
        answer = json_answer(body, Docker_Distribution_Api_Version="registry/2.0")
        return answer.with_headers(Link=link) if link else answer

    def _page(self, asked: Asked, names: list[str]) -> tuple[list[str], str]:
        wishes = dict(parse_qsl(asked.query, keep_blank_values=True))
        if self.behaviour.ignore_n:
            return names, ""
        size = self._size(wishes.get("n"))
        after = self._position(wishes)
        rest = [name for name in names if name > after]
        page = rest[:size]
        if size == 0:
            return [], ""
        return page, self._link(asked, wishes, page, more=len(rest) > size)

    def _size(self, text: str | None) -> int:
        if text is None:
            return min(self.behaviour.default_page, self.behaviour.page_cap)
        limit = self.behaviour.refuse_n_above
        if not text.isdecimal() or (limit is not None and int(text) > limit):
            raise RefusedError(
                400, "PAGINATION_NUMBER_INVALID", "invalid number of results requested"
            )
        return min(int(text), self.behaviour.page_cap)

    def _position(self, wishes: dict[str, str]) -> str:
        if self.behaviour.link != "cursor":
            return wishes.get("last", "")
        cursor = wishes.get(self.behaviour.cursor_name, "")
        if "last" in wishes and self.behaviour.cursor_name != "last":
            raise RefusedError(400, "UNSUPPORTED", "last is not supported, follow the Link")
        try:
            return base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode()
        except ValueError:
            raise RefusedError(400, "UNSUPPORTED", "no cursor of ours") from None

    def _link(self, asked: Asked, wishes: dict[str, str], page: list[str], *, more: bool) -> str:
        style = self.behaviour.link
        query = {k: v for k, v in wishes.items() if k == "n"}
        if style == "loop":
            return f'<{asked.target}>; rel="next"'
        if style == "cycle" and not more:
            return f'<{asked.path}?{urlencode(query)}>; rel="next"'
        if style == "absent" or not more:
            return ""
        if style == "cursor":
            query[self.behaviour.cursor_name] = (
                base64.urlsafe_b64encode(page[-1].encode()).decode().rstrip("=")
            )
        else:
            query["last"] = page[-1]
        path = asked.path
        if self.behaviour.link_root is not None:
            path = self.behaviour.link_root + path.removeprefix(self.behaviour.root)
        target = f"{path}?{urlencode(query, quote_via=quote)}"
        forms = {
            "absolute": f'<{self.url}{target}>; rel="next"',
            "other-host": f'<http://{self.behaviour.other_host}{target}>; rel="next"',
            "bare": f'{target}; rel="next"',
            "unquoted": f"<{target}>; rel=next",
            "several": (
                f'<{asked.path}>; rel="prev", <{target}>; rel="next", <{asked.path}>; rel="last"'
            ),
            "query-only": f'<?{target.partition("?")[2]}>; rel="next"',
        }
        return forms.get(style, f'<{target}>; rel="next"')

    # --- content --------------------------------------------------------------------------

    def _repository(self, name: str) -> Repository:
        try:
            repository = self.world.repository(name)
        except UnknownNameError:
            raise RefusedError(
                404, "NAME_UNKNOWN", "repository name not known to registry"
            ) from None
        if repository.account != self.world.home.name:
            raise RefusedError(404, "NAME_UNKNOWN", "repository name not known to registry")
        return repository

    def _manifest(self, asked: Asked, repository: Repository, reference: str) -> Answer:
        if asked.method == "HEAD" and self.behaviour.head_status is not None:
            return Answer(status=self.behaviour.head_status)
        accept = ", ".join(value for name, value in asked.header_pairs if name == "accept")
        if self.behaviour.accept_limit and len(accept) > self.behaviour.accept_limit:
            raise RefusedError(400, "UNSUPPORTED", "request header too large")
        content = self._content(repository, reference)
        if self._accepts(accept, content.media_type):
            return self._sent(content.manifest, content.media_type, asked.method)
        if self.behaviour.accept == "strict":
            raise RefusedError(404, "MANIFEST_UNKNOWN", "manifest is of a type not accepted")
        converted = f'{{"schemaVersion":1,"name":"{repository.path}","tag":"{reference}"}}'
        return self._sent(converted.encode(), _SCHEMA1, asked.method)

    def _accepts(self, accept: str, media_type: str) -> bool:
        kinds = {part.split(";")[0].strip() for part in accept.split(",")}
        return self.behaviour.accept == "ignore" or media_type in kinds

    def _sent(self, raw: bytes, media_type: str, method: str) -> Answer:
        headers = {"Content-Type": media_type}
        if self.behaviour.digest_header:
            headers["Docker-Content-Digest"] = digest_of(raw)
        if method == "HEAD" and not self.behaviour.head_length:
            raw = b""
        return Answer(body=raw, headers=headers)

    def _content(self, repository: Repository, reference: str) -> Content:
        if reference in repository.tags:
            found = repository.tags[reference].content
        else:
            found_by_digest = (c for c in _all_content(repository) if c.digest == reference)
            candidate = next(found_by_digest, None)
            if candidate is None:
                raise RefusedError(404, "MANIFEST_UNKNOWN", "manifest unknown")
            found = candidate
        if found.digest in self.behaviour.missing:
            raise RefusedError(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return found

    def _referrers(self, repository: Repository, digest: str) -> Answer:
        if not self.behaviour.referrers:
            raise RefusedError(404, "UNSUPPORTED", "no such route")
        belonging = {c.digest: c for c in _all_content(repository) if c.subject == digest}
        listed = index_of("", tuple(belonging.values()), created="", media_type=OCI_INDEX)
        return Answer(body=listed.manifest, headers={"Content-Type": OCI_INDEX})

    def _blob(self, repository: Repository, digest: str) -> Answer:
        for content in _all_content(repository):
            wanted = content.image_id == digest and not content.is_index
            if wanted and digest not in self.behaviour.missing:
                return self._sent(content.config, "application/octet-stream", "GET")
        raise RefusedError(404, "BLOB_UNKNOWN", "blob unknown to registry")


def _all_content(repository: Repository) -> Iterator[Content]:
    """Every manifest the repository holds: tagged, untagged, and the children of both."""
    waiting = [tag.content for tag in repository.tags.values()]
    waiting += repository.untagged.values()
    while waiting:
        content = waiting.pop()
        yield content
        waiting += content.children
