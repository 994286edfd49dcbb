"""The upstream of a bench: a world, its pages, the nginx that serves them, and what that counts."""

from __future__ import annotations

import contextlib
import gc
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from wharfinger.testing.model import World, made_up_world
from wharfinger.testing.rendered import Nginx, RenderedPages, move_tags

LIMIT = 1000
# nginx writes a line after the answer has left, so a reader may be done before its last line is.
LOG_SETTLES_S = 0.05


@dataclass(frozen=True, kw_only=True)
class Size:
    """How large a world is."""

    repositories: int
    tags: int

    def __str__(self) -> str:
        return f"{self.repositories:,}x{self.tags}"

    @property
    def listing_requests(self) -> int:
        """The most requests that confirming an unchanged world may take."""
        return -(-self.repositories // LIMIT) + 1


class Stage:
    """A rendered world. One ``upstream`` at a time may serve it."""

    def __init__(self, folder: Path, size: Size) -> None:
        self.size = size
        self.world: World = made_up_world(size.repositories, size.tags)
        self._pages = RenderedPages(folder, self.world)
        self._pages.write()
        # The world stays for the whole bench: the collector need not look at it again and again.
        gc.collect()
        gc.freeze()

    @contextlib.contextmanager
    def upstream(self, *, delay_s: float) -> Iterator[Nginx]:
        """Serve the world by one nginx worker process, the same for every contender."""
        with Nginx(self._pages.folder, delay_s=delay_s, workers=1) as nginx:
            yield nginx

    def move_one_percent(self) -> int:
        """Push something else under one tag of every hundredth repository; how many changed."""
        changed = move_tags(self.world, every=min(100, self.size.repositories))
        self._pages.rewrite(changed)
        return len(changed)

    def move_one_quietly(self) -> tuple[str, str, str]:
        """Move one tag while its repository's row stays as it was; the new (path, tag, digest)."""
        (path,) = move_tags(self.world, every=self.size.repositories, quiet=True)
        self._pages.rewrite([path])
        tag = self.world.tags(path)[-1]
        return path, tag.name, tag.content.digest

    def urls(self, root: str) -> list[str]:
        """Every URL that a reader of all pages by 1,000 asks for, the empty last ones included."""
        repositories = self.world.owned()
        pages = [
            f"{root}/v2/manage/repos?{_paging(o)}" for o in range(0, len(repositories) + 1, LIMIT)
        ]
        for repository in repositories:
            name = quote(repository.name.replace("/", "$"), safe="")
            path = f"{root}/v2/manage/namespaces/{repository.namespace}/repos/{name}/tags"
            pages += [f"{path}?{_paging(o)}" for o in range(0, len(repository.tags) + 1, LIMIT)]
        return pages


def _paging(offset: int) -> str:
    return f"limit={LIMIT}&offset={offset}"


class RequestCount:
    """Requests of one contender, as nginx's log has them."""

    def __init__(self, nginx: Nginx) -> None:
        self._nginx = nginx
        nginx.forget_requests()

    def take(self) -> int:
        """Requests since the count began.

        Raises:
            RuntimeError: one of them was not answered with 200.
        """
        time.sleep(LOG_SETTLES_S)
        lines = self._nginx.requests()
        refused = [line for line in lines if not line.endswith(" 200")]
        if refused:
            raise RuntimeError(f"{len(refused)} requests were refused, the first: {refused[0]}")
        return len(lines)
