"""How well-known registries speak the distribution protocol, as behaviours of the bundled one.

Each recipe holds what sets its registry apart for somebody who reads lists, and where the public
can read that it is so.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from wharfinger.testing.model import PLANTED
from wharfinger.testing.oci import OciBehaviour

CATALOG = "registry:catalog:*"


@dataclass(frozen=True, kw_only=True)
class Dialect:
    """A registry's behaviour, and what a reader needs for it.

    Attributes:
        behaviour: for ``OciUpstream``.
        username: who asks.
        secret: the password that goes with it; by default that of the behaviour.
        has_catalog: whether the repositories need not be named.
        options: of the registry, besides.
    """

    behaviour: OciBehaviour
    username: str = "reader"
    secret: str = field(default="", repr=False)
    has_catalog: bool = True
    options: Mapping[str, object] = field(default_factory=dict)


def docker_hub() -> Dialect:
    """Docker Hub's token service gives tokens for the catalog that do not open it.

    docker/hub-feedback#2094: 401 ``insufficient_scope`` with a token of that very scope. Lists of
    tags come a hundred at a time, with relative links (gadievron/raptor#495).
    """
    behaviour = OciBehaviour(
        auth="bearer",
        service="registry.docker.io",
        denied_scopes={CATALOG},
        page_cap=100,
    )
    return Dialect(behaviour=behaviour, has_catalog=False)


def ghcr() -> Dialect:
    """GitHub's registry has no catalog, and its token service refuses with 403.

    oras-project/oras-go#621 (no catalog); mccutchen/go-httpbin#223 (403 by the token service).
    """
    behaviour = OciBehaviour(
        auth="bearer", service="ghcr.io", refused_scopes={CATALOG}, catalog_status=404
    )
    return Dialect(behaviour=behaviour, has_catalog=False)


def gitlab() -> Dialect:
    """GitLab issues tokens at ``/jwt/auth`` and shows its catalog to administrators alone.

    portainer/portainer#2956 (401 for the catalog); mayflower/docker-ls#36 (403 by the token
    service, for a name that is not the caller's). A page too large is refused, as in the
    distribution project since its release 3: 400 ``PAGINATION_NUMBER_INVALID``.
    """
    behaviour = OciBehaviour(
        auth="bearer",
        token_path="/jwt/auth",  # noqa: S106 - a path
        service="container_registry",
        refused_scopes={CATALOG},
        link="absolute",
        refuse_n_above=500,
        default_page=2,
    )
    return Dialect(behaviour=behaviour, has_catalog=False)


def quay() -> Dialect:
    """Quay has cursors of its own: ``next_page``, and no ``last``.

    opencontainers/distribution-spec#116; deitch/docker_registry2#56 (fifty a page, whatever was
    asked for).
    """
    behaviour = OciBehaviour(
        auth="bearer",
        token_path="/v2/auth",  # noqa: S106 - a path
        service="quay.io",
        username="acme+reader",
        link="cursor",
        cursor_name="next_page",
        page_cap=3,
    )
    return Dialect(behaviour=behaviour, username="acme+reader")


def ecr() -> Dialect:
    """Amazon's registry takes an authorization token as the password of the user ``AWS``.

    AWS, "Private registry authentication in Amazon ECR". The challenge is basic with a service in
    it. What stands in ``last`` is no name but a cursor (DrydockCloud/drydock#927).
    """
    behaviour = OciBehaviour(
        auth="basic",
        username="AWS",
        basic_challenge='Basic realm="https://ecr.example/",service="ecr.amazonaws.com"',
        link="cursor",
        cursor_name="last",
        page_cap=3,
    )
    return Dialect(behaviour=behaviour, username="AWS")


def acr() -> Dialect:
    """Azure's registry gives its token as ``access_token`` and does not say how long it lives.

    Azure, "AAD-OAuth": a service principal's or the admin's password by basic authentication.
    """
    return Dialect(behaviour=_acr(anything_else=False))


def acr_refresh_token() -> Dialect:
    """Azure's registry takes a refresh token by POST, of a user with an all-zero id.

    Azure, "AAD-OAuth", calling ``POST /oauth2/token``; it is what ``az acr login
    --expose-token`` prints.
    """
    behaviour = _acr(anything_else=True)
    zero = "00000000-0000-0000-0000-000000000000"
    return Dialect(behaviour=behaviour, username=zero, secret=behaviour.refresh_token)


def acr_entra() -> Dialect:
    """Azure's registry exchanges an access token of Entra's for a refresh token of its own.

    Azure, "AAD-OAuth", calling ``POST /oauth2/exchange``.
    """
    behaviour = _acr(anything_else=True)
    return Dialect(
        behaviour=behaviour,
        username="entra",
        secret=behaviour.entra_token,
        options={"login": "entra"},
    )


def _acr(*, anything_else: bool) -> OciBehaviour:
    return OciBehaviour(
        auth="bearer",
        token_path="/oauth2/token",  # noqa: S106 - a path
        service="acme.azurecr.example",
        token_field="access_token",  # noqa: S106 - the name of a field
        expires_in=None,
        page_cap=3,
        refresh_token=f"refresh-{PLANTED}-of-acr" if anything_else else "",
        entra_token=f"access-{PLANTED}-of-entra" if anything_else else "",
        password="unused" if anything_else else f"principal-{PLANTED}-Password-1",
    )


def gar() -> Dialect:
    """Google's Artifact Registry takes an OAuth token as the password of ``oauth2accesstoken``.

    Google, "Configure authentication to Artifact Registry for Docker". Its lists of tags come in
    one piece and hold ``child`` and ``manifest``, too (go-containerregistry's ``google.Tags``).
    """
    behaviour = OciBehaviour(
        auth="bearer",
        token_path="/v2/token",  # noqa: S106 - a path
        service="europe-docker.pkg.example",
        username="oauth2accesstoken",
        ignore_n=True,
        google=True,
        catalog_status=404,
    )
    return Dialect(behaviour=behaviour, username="oauth2accesstoken", has_catalog=False)


def nexus() -> Dialect:
    """Nexus behind a port of its own links to where its main port would have the repository.

    sonatype/nexus-public#1011. It wants basic authentication.
    """
    behaviour = OciBehaviour(
        auth="basic",
        basic_challenge='BASIC realm="Sonatype Nexus Repository Manager"',
        link="absolute",
        link_root="/repository/docker-hosted",
        page_cap=3,
    )
    return Dialect(behaviour=behaviour)


def nexus_by_path() -> Dialect:
    """Nexus below a path of its main port, with bearer tokens; a group there gives no link.

    sonatype/nexus-public#117 and #209 (no link, although there is more).
    """
    behaviour = OciBehaviour(
        auth="bearer",
        root="/repository/docker-all",
        token_path="/repository/docker-all/v2/token",  # noqa: S106 - a path
        service="nexus.example",
        names_scope=False,
        offers_basic=True,
        link="absent",
    )
    return Dialect(behaviour=behaviour, options={"page_size": 3})


def old_proxy() -> Dialect:
    """A proxy that knows GET alone and drops headers it does not know, digests among them.

    renovatebot/renovate#2315 (HEAD and the digest's header); the rest is RFC 9110, section 7.6.
    """
    return Dialect(
        behaviour=OciBehaviour(auth="basic", head_status=405, digest_header=False, link="absent"),
        options={"page_size": 2},
    )


DIALECTS: Mapping[str, Callable[[], Dialect]] = {
    "docker-hub": docker_hub,
    "ghcr": ghcr,
    "gitlab": gitlab,
    "quay": quay,
    "ecr": ecr,
    "acr": acr,
    "acr-refresh-token": acr_refresh_token,
    "acr-entra": acr_entra,
    "gar": gar,
    "nexus": nexus,
    "nexus-by-path": nexus_by_path,
    "old-proxy": old_proxy,
}
