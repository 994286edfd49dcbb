"""A world as files of SWR's v2 pages, and an nginx that serves them: the upstream of a bench."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import quote

from wharfinger.testing.faults import Asked
from wharfinger.testing.model import Repository, World
from wharfinger.testing.swr import Swr

INSTALL_NGINX = "apt-get install nginx-light libnginx-mod-http-echo"
_MODULES = ("/usr/lib/nginx/modules", "/usr/share/nginx/modules")
_ECHO = "ngx_http_echo_module.so"
_REPOS = "/v2/manage/repos"
_NAMESPACES = "/v2/manage/namespaces"
_TAGS_URI = "^/v2/manage/namespaces/[^/]+/repos/[^/]+/tags"
_START_S = 10.0


class RenderedPages:
    """The pages of the home account's repositories under ``folder/pages``.

    A page is the file ``<path>/<limit>-<offset>.json``, byte for byte what ``Upstream`` answers to
    ``<path>?limit=…&offset=…&order_column=name``: of the repositories and of every repository's
    tags. A reader that goes on by ``limit`` finds its pages, and one that steps back a row each
    time does too; any other offset is not there, so that a wrong request shows.

    Args:
        folder: where to write; made when it is missing.
        world: what to write.
        strides: pairs of (limit, rows by which the offset grows).
    """

    def __init__(
        self,
        folder: Path,
        world: World,
        *,
        strides: tuple[tuple[int, int], ...] = ((1000, 1000), (1000, 999)),
    ) -> None:
        self.folder = folder
        self.world = world
        self._strides = strides
        self._swr = Swr(world)
        self._ranges: dict[str, str] = {}

    def write(self) -> int:
        """Write every page; the number of files."""
        return self.rewrite(repository.path for repository in self.world.owned())

    def rewrite(self, changed: Iterable[str] = ()) -> int:
        """Write again what hangs on these repositories, and the list of repositories.

        A file is only touched when its bytes change, and replaced in one step. A change that was
        quiet in the world leaves the list as it was, so only the repository's tags are written:
        a standing fingerprint.

        Returns:
            How many files were written.
        """
        written = self._write_list(_REPOS, len(self.world.owned()))
        written += self._write_page(_NAMESPACES, "", "-")
        for path in changed:
            repository = self.world.repositories.get(path)
            if repository is None:
                shutil.rmtree(self._place(_tags_uri(path)), ignore_errors=True)
            else:
                written += self._write_list(_tags_uri(path), len(repository.tags))
        self._write_ranges()
        return written

    def _write_list(self, uri: str, total: int) -> int:
        wanted = self._offsets(total)
        kept = {f"{limit}-{offset}.json" for limit, offset in wanted}
        folder = self._place(uri)
        for stale in folder.glob("*.json") if folder.is_dir() else ():
            if stale.name not in kept:
                stale.unlink()
        column = "name" if uri == _REPOS else "tag"
        return sum(
            self._write_page(
                uri,
                f"limit={limit}&offset={offset}&order_column={column}&order_type=asc",
                f"{limit}-{offset}",
            )
            for limit, offset in wanted
        )

    def _offsets(self, total: int) -> list[tuple[int, int]]:
        """Every (limit, offset) an honest reader may ask of a list of this length."""
        wanted = {(limit, 0) for limit, _ in self._strides}
        for limit, stride in self._strides:
            wanted |= {(limit, offset) for offset in range(0, total, stride)}
            # A list that ends exactly on a page is known to end only by the empty one behind it.
            if total % stride == 0:
                wanted.add((limit, total))
        return sorted(wanted)

    def _write_page(self, uri: str, query: str, name: str) -> int:
        asked = Asked(method="GET", path=quote(uri), query=query, headers={})
        answer = self._swr.respond(asked, self.world.home)
        if answer is None or answer.status != 200:
            raise ValueError(f"{uri}?{query} cannot be rendered")
        said = answer.headers.get("Content-Range")
        if said is not None:
            self._ranges[f"{uri}/{name}.json"] = said
        place = self._place(uri) / f"{name}.json"
        if place.exists() and place.read_bytes() == answer.body:
            return 0
        place.parent.mkdir(parents=True, exist_ok=True)
        fresh = place.with_suffix(".new")
        fresh.write_bytes(answer.body)
        fresh.replace(place)
        return 1

    def _place(self, uri: str) -> Path:
        return self.folder / "pages" / uri.lstrip("/")

    def _write_ranges(self) -> None:
        """The ``Content-Range`` of every page, the commonest of the tags' as a rule."""
        # By the time nginx looks here, its $uri is that of the file it has chosen.
        tags = {key: said for key, said in self._ranges.items() if "/tags/" in key}
        counts = Counter((_file_of(key), said) for key, said in tags.items())
        rules = {name: said for (name, said), _ in reversed(counts.most_common())}
        lines = [f'"~{_TAGS_URI}/{re.escape(name)}$" "{said}";' for name, said in rules.items()]
        lines += [
            f'"{key}" "{said}";'
            for key, said in self._ranges.items()
            if key not in tags or rules[_file_of(key)] != said
        ]
        (self.folder / "ranges.map").write_text("\n".join(lines) + "\n", "utf-8")


def _file_of(key: str) -> str:
    return key.rpartition("/")[2]


def _tags_uri(path: str) -> str:
    namespace, name = path.split("/", 1)
    return f"/v2/manage/namespaces/{namespace}/repos/{name.replace('/', '$')}/tags"


def move_tags(world: World, *, every: int = 100, quiet: bool = False) -> list[str]:
    """Move the newest tag of every n-th repository (1 % by default); the changed paths."""
    chosen: list[Repository] = [r for r in world.owned()[::every] if r.tags]
    for repository in chosen:
        world.move(repository.path, list(repository.tags)[-1], quiet=quiet)
    return [repository.path for repository in chosen]


def nginx_missing() -> str | None:
    """Why nginx cannot serve rendered pages here, with the command that helps; else ``None``."""
    if shutil.which("nginx") is None:
        return f"nginx is missing: {INSTALL_NGINX}"
    if _echo_module() is None:
        return f"nginx lacks the echo module: {INSTALL_NGINX}"
    return None


def _echo_module() -> Path | None:
    places = [Path(folder) / _ECHO for folder in _MODULES]
    return next((place for place in places if place.exists()), None)


class Nginx:
    """An nginx of one's own over rendered pages, as root or as an ordinary user.

    Everything it writes lies in ``folder``, beside the pages. It checks no credentials.

    Args:
        folder: the folder of ``RenderedPages``.
        delay_s: how long every answer waits.
        host: the address to listen on.
        port: 0 takes a free one.
        workers: worker processes.

    Raises:
        RuntimeError: nginx is missing or does not start; the message says why.
    """

    def __init__(
        self,
        folder: Path,
        *,
        delay_s: float = 0.0,
        host: str = "127.0.0.1",
        port: int = 0,
        workers: int = 1,
    ) -> None:
        self._folder = folder.resolve()
        self._delay_s = delay_s
        self._host = host
        self._port = port or _free_port(host)
        self._workers = workers
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{self._host}:{self._port}"

    def requests(self) -> list[str]:
        """What was asked so far, as ``"GET /v2/manage/repos?limit=1000&offset=0 200"``."""
        return (self._folder / "access.log").read_text("utf-8").splitlines()

    def forget_requests(self) -> None:
        """Begin the count anew."""
        os.truncate(self._folder / "access.log", 0)

    def reload(self) -> None:
        """Read ``Content-Range`` anew, after a change in the number of rows."""
        if self._process is not None:
            self._process.send_signal(signal.SIGHUP)
            time.sleep(0.2)

    def start(self) -> None:
        """Start it and wait until it answers."""
        missing = nginx_missing()
        if missing is not None:
            raise RuntimeError(missing)
        for name in ("body", "proxy", "fastcgi", "uwsgi", "scgi"):
            (self._folder / "temp" / name).mkdir(parents=True, exist_ok=True)
        configuration = self._folder / "nginx.conf"
        configuration.write_text(self.configuration(), "utf-8")
        command = ["nginx", "-p", str(self._folder), "-c", str(configuration)]
        errors = self._folder / "error.log"
        self._process = subprocess.Popen(  # noqa: S603 - arguments of our own
            [*command, "-e", str(errors)], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait(errors)

    def stop(self) -> None:
        """Stop it and its workers."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            self._process.wait(10)
            self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def configuration(self) -> str:
        """The text of ``nginx.conf``."""
        folder = self._folder
        # Workers of a root master would drop to a user who cannot enter a folder of mode 0700.
        user = "user root;" if os.geteuid() == 0 else ""
        module = f"load_module {_echo_module()};" if self._delay_s else ""
        wait = f"echo_sleep {self._delay_s}; echo_exec @page;" if self._delay_s else ""
        root = f"root {folder}/pages; try_files $uri/$arg_limit-$arg_offset.json =404;"
        root += " add_header Content-Range $rows;"
        page = f"location @page {{ {root} }}" if wait else ""
        return f"""{user} {module}
daemon off;
worker_processes {self._workers};
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ worker_connections 2048; }}
http {{
  default_type application/json;
  sendfile on;
  tcp_nopush on;
  keepalive_requests 1000000;
  max_ranges 0;
  etag off;
  client_body_temp_path {folder}/temp/body;
  proxy_temp_path {folder}/temp/proxy;
  fastcgi_temp_path {folder}/temp/fastcgi;
  uwsgi_temp_path {folder}/temp/uwsgi;
  scgi_temp_path {folder}/temp/scgi;
  log_format plain '$request_method $request_uri $status';
  access_log {folder}/access.log plain;
  map_hash_bucket_size 512;
  map_hash_max_size 65536;
  map $uri $rows {{ default ""; include {folder}/ranges.map; }}
  server {{
    listen {self._host}:{self._port} backlog=1024;
    location / {{ {wait or root} }}
    {page}
  }}
}}
"""

    def _wait(self, errors: Path) -> None:
        process = self._process
        deadline = time.monotonic() + _START_S
        while process is not None and time.monotonic() < deadline and process.poll() is None:
            try:
                with socket.create_connection((self._host, self._port), timeout=1):
                    return
            except OSError:
                time.sleep(0.02)
        said = errors.read_text("utf-8") if errors.exists() else ""
        self.stop_quietly()
        raise RuntimeError(f"nginx did not start: {said.strip()}")

    def stop_quietly(self) -> None:
        """Stop it where it may be dead already."""
        if self._process is not None and self._process.poll() is None:
            self.stop()
        self._process = None


def _free_port(host: str) -> int:
    with socket.socket() as probe:
        probe.bind((host, 0))
        port: int = probe.getsockname()[1]
        return port
