"""What a user has today: the official SDK, one page after the other, rows collected in memory.

Run as ``python -m bench.sdk_loop URL ACCESS_KEY SECRET_KEY PROJECT_ID ROWS_FILE``. The seconds of
the loop alone, without imports and without writing the file, go to standard output.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkswr import v2 as swr

LIMIT = 1000

SdkRow = tuple[str, str, str, str]


def read_everything(client: swr.SwrClient) -> list[SdkRow]:
    """(namespace, name, tag, digest) of every image, in the order of the lists."""
    rows = []
    for repository in _pages(client.list_repos_details, swr.ListReposDetailsRequest):
        path = repository.name.replace("/", "$")

        def tags_of(namespace: str = repository.namespace, name: str = path, **paging: str) -> Any:
            return swr.ListRepositoryTagsRequest(namespace=namespace, repository=name, **paging)

        rows.extend(
            (repository.namespace, repository.name, tag.tag, tag.digest)
            for tag in _pages(client.list_repository_tags, tags_of)
        )
    return rows


def _pages(call: Callable[[Any], Any], wish: Callable[..., Any]) -> Iterator[Any]:
    offset = 0
    while True:
        page = call(wish(limit=str(LIMIT), offset=str(offset))).body or []
        yield from page
        offset += LIMIT
        if len(page) < LIMIT:
            return


def main(url: str, access_key: str, secret_key: str, project_id: str, rows_file: str) -> None:
    credentials = BasicCredentials(access_key, secret_key, project_id)
    client = swr.SwrClient.new_builder().with_credentials(credentials).with_endpoint(url).build()
    began = time.perf_counter()
    rows = read_everything(client)
    took_s = time.perf_counter() - began
    Path(rows_file).write_bytes(msgspec.json.encode(rows))
    print(took_s)


if __name__ == "__main__":
    main(*sys.argv[1:])
