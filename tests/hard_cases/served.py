"""Images in a scripted registry, and whole registries in few words."""

from __future__ import annotations

import datetime as dt

from wharfinger.testing.content import image
from wharfinger.testing.faults import Answer, json_answer
from wharfinger.testing.scripted import Scripted

MADE = dt.datetime(2026, 3, 4, 5, 6, 7, tzinfo=dt.UTC)
CATALOG = "/v2/_catalog"


def serve(server: Scripted, path: str, *tags: str) -> set[tuple[str, str, str]]:
    """Serve a repository's tags with all that hangs on them; what a complete list holds of it."""
    server.route(f"GET /v2/{path}/tags/list?n=1000", {"name": path, "tags": list(tags)})
    return {serve_image(server, path, tag) for tag in tags}


def serve_image(server: Scripted, path: str, tag: str) -> tuple[str, str, str]:
    content = image(f"{path}:{tag}", created=MADE)
    headers = {"Content-Type": content.media_type, "Docker-Content-Digest": content.digest}
    answer = Answer(body=content.manifest, headers=headers)
    server.route(f"HEAD /v2/{path}/manifests/{tag}", answer)
    server.route(f"GET /v2/{path}/manifests/{content.digest}", answer)
    server.route(f"GET /v2/{path}/blobs/{content.image_id}", Answer(body=content.config))
    server.route(f"GET /v2/{path}/referrers/{content.digest}", Answer(status=404))
    return path, tag, content.digest


def codes(run) -> list[str]:
    """Why a run is not complete, in the words for machines."""
    return [reason.code for reason in run.reasons]


def catalog(*names: str, link: str = "") -> Answer:
    answer = json_answer({"repositories": list(names)})
    return answer.with_headers(Link=link) if link else answer


def fill(registry, repositories: int, *, tags: int = 1) -> None:
    for number in range(repositories):
        for version in range(tags):
            registry.world.push(f"team/app-{number:03}", f"v{version}")
