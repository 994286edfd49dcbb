"""``make run``: the main job in front of your eyes, over HTTP, against a made-up SWR.

``python -m wharfinger.testing.quickstart`` starts ``wharfinger serve --sample``, makes the founding
call, shows the list, deletes one tag upstream and shows that exactly this one is retired.
"""

from __future__ import annotations

import argparse
import contextlib
import ctypes
import http.client
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType
from typing import Any, NoReturn, TypeVar
from urllib.parse import quote, urlencode, urlsplit

import msgspec
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from wharfinger.domain.errors import WharfingerError
from wharfinger.settings import Settings, child_environment, read_settings
from wharfinger.store.cluster import Layout, is_free

T = TypeVar("T")

READY_WITHIN_S = 120.0
SYNCED_WITHIN_S = 300.0
STOPPED_WITHIN_S = 30.0
# The keeper waits a second for another user, then PostgreSQL stops in a fraction of one.
DATABASE_STOPPED_WITHIN_S = 10.0
POLL_S = 0.1
PAGE = 200
SHOWN = 8

_PR_SET_PDEATHSIG = 1
_ONE_REGISTRY = {"private_image": "the private images", "shared_image": "the images shared with us"}


class StepFailedError(WharfingerError):
    """A step of the walk-through did not do what it should; the message says which and how."""

    code = "step_failed"


# --- what the answers look like; the kept part ---------------------------------------------------


class _UpstreamNote(msgspec.Struct, frozen=True):
    url: str
    token: str


class _Note(msgspec.Struct, frozen=True):
    """``sample.json``, which the service leaves in its data directory."""

    service: str
    project_id: str
    token: str
    access_key: str
    secret_key: str
    upstream: _UpstreamNote


class _Accepted(msgspec.Struct, frozen=True):
    error_code: int
    task_id: str


class _Task(msgspec.Struct, frozen=True):
    task_id: str
    task_status: int
    total_num: int
    failed_num: int
    failed_reason: str | None = None


class _Tasks(msgspec.Struct, frozen=True):
    data_list: list[_Task]


class _Image(msgspec.Struct, frozen=True):
    id: int
    namespace: str
    image_name: str
    image_version: str
    image_digest: str
    image_type: str
    image_size: int
    latest_version: bool
    registry_name: str

    def __str__(self) -> str:
        return f"{self.namespace}/{self.image_name}:{self.image_version}"


class _Images(msgspec.Struct, frozen=True):
    total_num: int
    data_list: list[_Image]


# --- talking to it -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Remote:
    """An HTTP service that takes ``X-Auth-Token``."""

    url: str
    token: str

    def call(
        self, method: str, path: str, answer: type[T] | None = None, *, body: object = None
    ) -> T:
        """Make one call and decode its answer.

        Raises:
            StepFailedError: no answer, a status that is not 2xx, or an answer of another shape.
        """
        what = f"{method} {self.url}{path}"
        status, content = self._send(what, method, path, body)
        if not 200 <= status < 300:
            raise StepFailedError(f"{what} answered {status}: {content[:300].decode()}")
        try:
            return msgspec.json.decode(content, type=answer) if answer else None  # type: ignore[return-value]
        except msgspec.DecodeError as exc:
            raise StepFailedError(f"{what} answered something else: {exc}") from exc

    def _send(self, what: str, method: str, path: str, body: object) -> tuple[int, bytes]:
        parts = urlsplit(self.url)
        connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
        content = None if body is None else msgspec.json.encode(body)
        headers = {"X-Auth-Token": self.token, "Content-Type": "application/json"}
        try:
            connection.request(method, path, content, headers)
            reply = connection.getresponse()
            return reply.status, reply.read()
        except (OSError, http.client.HTTPException) as exc:
            raise StepFailedError(f"{what}: {exc!r}") from exc
        finally:
            connection.close()


class Hss:
    """The calls of HSS v5 that the walk-through makes."""

    def __init__(self, remote: Remote, project_id: str) -> None:
        self._remote = remote
        self._root = f"/v5/{project_id}/image"

    def synchronize(self, image_type: str) -> str:
        """Make the founding call; returns the task's id."""
        path = f"{self._root}/synchronize"
        accepted = self._remote.call("POST", path, _Accepted, body={"image_type": image_type})
        return accepted.task_id

    def task(self, task_id: str) -> _Task:
        """How far a task has come."""
        query = urlencode({"type": "image_sync", "task_id": task_id})
        tasks = self._remote.call("GET", f"{self._root}/tasks?{query}", _Tasks).data_list
        if len(tasks) != 1:
            raise StepFailedError(f"the task {task_id} was accepted and is not listed")
        return tasks[0]

    def images(self) -> list[_Image]:
        """The whole list, page by page."""
        rows: list[_Image] = []
        while True:
            query = urlencode({"limit": PAGE, "offset": len(rows)})
            path = f"{self._root}/registries/images?{query}"
            page = self._remote.call("GET", path, _Images)
            rows += page.data_list
            if not page.data_list or len(rows) >= page.total_num:
                break
        if len(rows) != page.total_num:
            raise StepFailedError(f"{len(rows)} images came where total_num says {page.total_num}")
        return rows


# --- the walk ------------------------------------------------------------------------------------


class WalkThrough:
    """The steps, each of which raises ``StepFailedError`` unless it holds."""

    def __init__(self, note: _Note, screen: Console) -> None:
        self._hss = Hss(Remote(note.service, note.token), note.project_id)
        self._upstream = Remote(note.upstream.url, note.upstream.token)
        self._screen = screen

    def go(self) -> None:
        """Synchronise, look, delete one tag upstream, synchronise again, compare."""
        self._say("1", "POST image/synchronize: private images, then those shared with the account")
        for image_type in _ONE_REGISTRY:
            self._synchronise(image_type)
        before = self._hss.images()
        self._say("2", f"GET image/registries/images: {len(before)} images")
        self._show(before)
        gone = _pick(before)
        self._say("3", f"SWR itself: delete the tag [bold]{gone}[/bold]")
        self._delete_upstream(gone)
        self._say("4", "POST image/synchronize again: only what changed is read")
        self._synchronise("private_image")
        self._compare(before, self._hss.images(), gone)
        self._say("5", f"exactly this one was retired; {len(before) - 1} images stand as they were")

    def _say(self, step: str, text: str) -> None:
        self._screen.print(f"[bold cyan]{step}[/bold cyan] {text}", highlight=False)

    def _synchronise(self, image_type: str) -> None:
        task_id = self._hss.synchronize(image_type)
        columns = (
            TextColumn("  {task.description}"),
            BarColumn(),
            TextColumn("{task.percentage:>3.0f} %"),
        )
        counted = TextColumn("{task.fields[images]} images")
        with Progress(*columns, counted, TimeElapsedColumn(), console=self._screen) as progress:
            bar = progress.add_task(_ONE_REGISTRY[image_type], total=100, images=0)
            deadline = time.monotonic() + SYNCED_WITHIN_S
            while True:
                task = self._hss.task(task_id)
                progress.update(bar, completed=max(task.task_status, 0), images=task.total_num)
                if task.task_status < 0 or task.failed_num:
                    raise StepFailedError(f"the sync of {image_type} failed: {task.failed_reason}")
                if task.task_status == 100:
                    return
                if time.monotonic() > deadline:
                    raise StepFailedError(f"the sync of {image_type} does not come to an end")
                time.sleep(POLL_S)

    def _show(self, images: list[_Image]) -> None:
        if not images:
            raise StepFailedError("the list is empty after a complete synchronisation")
        table = Table("registry", "repository", "tag", "digest", "size", box=None, padding=(0, 2))
        for image in images[:SHOWN]:
            table.add_row(
                image.registry_name,
                f"{image.namespace}/{image.image_name}",
                image.image_version,
                image.image_digest[:19],
                f"{image.image_size / 1e6:.1f} MB",
            )
        self._screen.print(table)
        if len(images) > SHOWN:
            self._screen.print(f"  … and {len(images) - SHOWN} more", highlight=False)

    def _delete_upstream(self, image: _Image) -> None:
        # SWR wants a slash in a repository's name as a dollar sign.
        name = quote(image.image_name.replace("/", "$"), safe="")
        path = f"/v2/manage/namespaces/{quote(image.namespace)}/repos/{name}"
        self._upstream.call("DELETE", f"{path}/tags/{quote(image.image_version, safe='')}")

    @staticmethod
    def _compare(before: list[_Image], after: list[_Image], gone: _Image) -> None:
        left, came = (
            _identities(before) - _identities(after),
            _identities(after) - _identities(before),
        )
        if came or left != _identities([gone]):
            raise StepFailedError(
                f"only {gone} was deleted upstream, but {len(left)} images left the list and"
                f" {len(came)} came: {sorted(left ^ came)[:5]}"
            )


def _identities(images: list[_Image]) -> set[tuple[int, str, str, str]]:
    """What must not change of an image that nobody touched: its id, place, name and digest."""
    return {(i.id, i.registry_name, str(i), i.image_digest) for i in images}


def _pick(images: list[_Image]) -> _Image:
    """A tag that is not its repository's newest, from the middle of the list."""
    old = [i for i in images if i.image_type == "private_image" and not i.latest_version]
    if not old:
        raise StepFailedError("the sample has no private image with an older tag")
    return old[len(old) // 2]


# --- the service ---------------------------------------------------------------------------------


class Service:
    """``wharfinger serve --sample`` as a child process."""

    def __init__(self, process: subprocess.Popen[str], settings: Settings) -> None:
        self.process = process
        self._settings = settings

    @classmethod
    @contextlib.contextmanager
    def running(cls, settings: Settings, listen: str) -> Iterator[Service]:
        """Start it, and leave no process behind."""
        settings.data_dir.mkdir(parents=True, exist_ok=True)
        environment = child_environment(settings) | {"WHARFINGER_LOG_LEVEL": _log_level(settings)}
        command = [sys.executable, "-m", "wharfinger", "serve", "--sample", f"--listen={listen}"]
        with cls.log_file(settings).open("w") as log:
            process = subprocess.Popen(  # noqa: S603 - our own program and a checked address
                command,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                # Ctrl-C reaches this process alone, which then stops the service in order.
                start_new_session=True,
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509 - this process has one thread
            )
        service = cls(process, settings)
        try:
            yield service
        finally:
            service.stop()

    @staticmethod
    def log_file(settings: Settings) -> Any:
        """Where the service logs."""
        return settings.data_dir / "quickstart.log"

    def await_ready(self) -> _Note:
        """Wait until it listens; returns how to use it.

        Raises:
            StepFailedError: it ended, or does not get ready.
        """
        with _limited(READY_WITHIN_S, "the service did not get ready"):
            if self.process.stdout is None or not self.process.stdout.readline():
                code = self.process.wait()
                raise StepFailedError(f"the service ended with code {code}: {self._last_words()}")
        note = (self._settings.data_dir / "sample.json").read_bytes()
        return msgspec.json.decode(note, type=_Note)

    def stop(self) -> None:
        """Stop it and wait until PostgreSQL is gone too, unless somebody else uses that."""
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(STOPPED_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self._settings.database_url is None:
            keeper = Layout.below(self._settings.data_dir).keeper_lock
            deadline = time.monotonic() + DATABASE_STOPPED_WITHIN_S
            while not is_free(keeper) and time.monotonic() < deadline:
                time.sleep(POLL_S)

    def _last_words(self) -> str:
        lines = self.log_file(self._settings).read_text("utf-8").strip().splitlines()
        return "\n".join(lines[-5:]) or "it said nothing"


def _log_level(settings: Settings) -> str:
    chosen = {s.name: s.origin for s in settings.described}["log_level"] != "default"
    return settings.log_level if chosen else "warning"


def _die_with(parent: int) -> Callable[[], None]:
    libc = ctypes.CDLL(None)

    def ask_for_signal() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, int(signal.SIGTERM), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)

    return ask_for_signal


@contextlib.contextmanager
def _limited(seconds: float, complaint: str) -> Iterator[None]:
    """Interrupt what blocks the main thread for too long."""

    def complain(_signal: int, _frame: FrameType | None) -> NoReturn:
        raise StepFailedError(f"{complaint} within {seconds:.0f} s")

    before = signal.signal(signal.SIGALRM, complain)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def _free_address(settings: Settings, screen: Console) -> str:
    """The address of the settings, or the same host with a port of the system's choice."""
    host, _, port = settings.listen.rpartition(":")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host.strip("[]"), int(port)))
        except OSError as exc:
            screen.print(f"{settings.listen}: {exc.strerror}; taking a free port", highlight=False)
            return f"{host}:0"
    return settings.listen


# --- the end -------------------------------------------------------------------------------------


def farewell(note: _Note) -> str:
    """Address, token, and code that works when pasted."""
    return f"""
address  {note.service}
project  {note.project_id}
token    {note.token}

The same list with the official SDK (pip install huaweicloudsdkhss):

{sdk_code(note)}
"""


def sdk_code(note: _Note) -> str:
    """Three lines, and their imports, that read the list with ``huaweicloudsdkhss``."""
    keys = f'"{note.access_key}", "{note.secret_key}", "{note.project_id}"'
    return f"""\
from huaweicloudsdkcore.auth.credentials import BasicCredentials
from huaweicloudsdkhss.v5 import HssClient, ListRegistryImagesRequest

keys = BasicCredentials({keys})
hss = HssClient.new_builder().with_credentials(keys).with_endpoint("{note.service}").build()
print(hss.list_registry_images(ListRegistryImagesRequest(limit=10)))"""


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m wharfinger.testing.quickstart", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--exit", action="store_true", help="stop after the walk-through")
    return parser.parse_args()


def _interrupt(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise KeyboardInterrupt


def _run(settings: Settings, *, leave: bool) -> None:
    screen = Console(width=None if sys.stdout.isatty() else 120)
    with Service.running(settings, _free_address(settings, screen)) as service:
        note = service.await_ready()
        screen.print(f"Wharfinger listens on {note.service}, with a made-up SWR beside it.")
        WalkThrough(note, screen).go()
        sys.stdout.write(farewell(note))
        if leave:
            return
        sys.stdout.write(f"\nLog: {Service.log_file(settings)}. Ctrl-C stops it.\n")
        sys.stdout.flush()
        code = service.process.wait()
        raise StepFailedError(f"the service ended by itself, with code {code}")


def main() -> None:
    """Walk through; stay up until interrupted. Exit code 1 when a step does not hold."""
    arguments = _arguments()
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        _run(read_settings(), leave=arguments.exit)
    except KeyboardInterrupt:
        sys.stdout.write("\nstopped\n")
    except WharfingerError as error:
        sys.stderr.write(f"quickstart: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
