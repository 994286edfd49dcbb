"""A small OCI registry over a world, for what a real one never does; faults on demand."""

import base64
import contextlib
import re
import secrets
from urllib.parse import parse_qs, quote, unquote

from wharfinger.domain.model import RegistryCredential
from wharfinger.testing.faults import Answer, json_answer
from wharfinger.testing.model import World
from wharfinger.testing.server import LoopbackServer
from wharfinger.testing.source_suite import Stage


class ScriptedRegistry(LoopbackServer):
    """``auth`` is None, "basic" or "bearer"; ``extra`` holds manifests and blobs by digest."""

    def __init__(self, *, auth=None, user="u", password="correct-horse"):
        super().__init__()
        self.world = World()
        self.auth = auth
        self.user = user
        self.password = password
        self.tokens = {}  # token: scope
        self.realm = None
        self.expires_in = 300
        self.extra = {}
        self.extra_types = {}

    def add(self, raw, digest, media_type):
        self.extra[digest] = raw
        self.extra_types[digest] = media_type

    def respond(self, asked):
        query = {name: values[0] for name, values in parse_qs(asked.query).items()}
        path = unquote(asked.path)
        if path == "/token":
            return self._token(asked, query)
        refusal = self._refusal(asked, path)
        if refusal is not None:
            return refusal
        if path == "/v2/_catalog":
            names = sorted(r.path.removeprefix("_/") for r in self.world.owned())
            return self._page(asked, "repositories", names, query)
        if found := re.fullmatch(r"/v2/(.+)/tags/list", path):
            return self._tags(asked, found[1], query)
        if found := re.fullmatch(r"/v2/(.+)/(manifests|blobs)/([^/]+)", path):
            return self._content(*found.groups())
        return _error(404, "UNSUPPORTED")

    def _tags(self, asked, name, query):
        if name not in self.world.repositories:
            return _error(404, "NAME_UNKNOWN")
        names = sorted(tag.name for tag in self.world.tags(name))
        return self._page(asked, "tags", names, query, name=name)

    def _page(self, asked, key, names, query, **more):
        after = [name for name in names if name > query.get("last", "")]
        n = int(query.get("n", 100))
        headers = {}
        if len(after) > n:
            link = f"{asked.path}?last={quote(after[n - 1], safe='')}&n={n}"
            headers = {"Link": f'<{link}>; rel="next"'}
        answer = json_answer({**more, key: after[:n]})
        return Answer(status=200, body=answer.body, headers={**answer.headers, **headers})

    def _content(self, name, kind, reference):
        if reference in self.extra:
            return _blob(self.extra[reference], reference, self.extra_types[reference])
        if name not in self.world.repositories:
            return _error(404, "NAME_UNKNOWN")
        for tag in self.world.tags(name):
            for content in (tag.content, *tag.content.children):
                if kind == "blobs" and reference == content.image_id:
                    return _blob(content.config, reference, "application/octet-stream")
                if kind == "manifests" and (
                    reference == content.digest
                    or (reference == tag.name and content is tag.content)
                ):
                    return _blob(content.manifest, content.digest, content.media_type)
        return _error(404, "MANIFEST_UNKNOWN")

    def _refusal(self, asked, path):
        given = asked.headers.get("authorization", "")
        if self.auth == "basic" and given != self.basic():
            return _challenge('Basic realm="here"')
        if self.auth == "bearer":
            scope = "registry:catalog:*"
            if found := re.fullmatch(r"/v2/(.+)/(tags/list|manifests/.*|blobs/.*)", path):
                scope = f"repository:{found[1]}:pull"
            if self.tokens.get(given.removeprefix("Bearer ")) != scope:
                realm = self.realm or f"{self.url}/token?account=x"
                return _challenge(f'Bearer realm="{realm}",service="scripted",scope="{scope}"')
        return None

    def basic(self):
        pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        return f"Basic {pair}"

    def _token(self, asked, query):
        if asked.headers.get("authorization") != self.basic():
            return _error(401, "UNAUTHORIZED")
        token = secrets.token_hex(20)
        self.tokens[token] = query["scope"]
        body = {"token": token}
        if self.expires_in is not None:
            body["expires_in"] = self.expires_in
        return json_answer(body)


def _challenge(text):
    return _error(401, "UNAUTHORIZED").with_headers(WWW_Authenticate=text)


def _error(status, code):
    return json_answer({"errors": [{"code": code, "message": code.lower()}]}, status=status)


def _blob(raw, digest, media_type):
    headers = {"Content-Type": media_type, "Docker-Content-Digest": digest}
    return Answer(status=200, body=raw, headers=headers)


@contextlib.asynccontextmanager
async def oci_stage(*, auth=None):
    async with ScriptedRegistry(auth=auth) as registry:
        credential = RegistryCredential(kind="none")
        if auth:
            credential = RegistryCredential(
                kind="basic", identity=registry.user, secret=registry.password
            )
        yield Stage(
            server=registry,
            credential=credential,
            push=registry.world.push,
            expected=registry.world.images,
            repositories="/v2/_catalog",
            tags="/tags/list",
            challenged=1 if auth else 0,
            secrets=(registry.password, registry.basic().split()[1], "Bearer "),
        )
