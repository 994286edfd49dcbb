"""A real OpenStack Keystone on a loopback port, and an administrator who works with it."""

import contextlib
import json
import secrets
import socket
import subprocess
import urllib.error
import urllib.request
from pathlib import Path

from wharfinger.testing.model import PLANTED

# An environment of its own: Keystone needs half a hundred packages that nothing else does.
PYTHON = Path(__file__).parents[1] / ".venv-keystone" / "bin" / "python"
MISSING = None if PYTHON.exists() else "needs Keystone: make keystone"
PASSWORD = f"service-{PLANTED}-password"


@contextlib.contextmanager
def running_keystone(folder):
    """Set one up in an empty folder, and stop it afterwards."""
    port = _free_port()
    with (folder / "output").open("w") as output:
        process = subprocess.Popen(
            [PYTHON, Path(__file__).with_name("keystone_process.py"), folder, str(port), PASSWORD],
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
        )
    try:
        line = process.stdout.readline()
        assert line == "up\n", (folder / "output").read_text()
        yield RealKeystone(f"http://127.0.0.1:{port}", folder)
    finally:
        process.kill()
        process.communicate()


class RealKeystone:
    """Works as the administrator, by plain requests."""

    def __init__(self, url, folder):
        self.url = url
        self._requests = folder / "requests"
        self._token = self.log_in("admin", PASSWORD, "admin")

    def requests(self):
        """Every request so far, as ``METHOD /path``."""
        return self._requests.read_text().splitlines()

    def project(self, name=None):
        """Make a project; returns its id and name."""
        name = name or f"p-{secrets.token_hex(4)}"
        body = {"project": {"name": name, "domain_id": "default"}}
        return self._admin("POST", "/v3/projects", body)["project"]["id"], name

    def user(self, project_id, role="reader", name=None):
        """Make a user with a role in a project; returns its name."""
        name = name or f"u-{secrets.token_hex(4)}"
        body = {"user": {"name": name, "password": PASSWORD, "domain_id": "default"}}
        user_id = self._admin("POST", "/v3/users", body)["user"]["id"]
        (found,) = self._admin("GET", f"/v3/roles?name={role}")["roles"]
        path = f"/v3/projects/{project_id}/users/{user_id}/roles/{found['id']}"
        self._admin("PUT", path)
        return name

    def log_in(self, name, password, project_name):
        """A token of a project, as any client gets one."""
        domain = {"name": "Default"}
        user = {"name": name, "password": password, "domain": domain}
        scope = {"project": {"name": project_name, "domain": domain}} if project_name else None
        auth = {
            "identity": {"methods": ["password"], "password": {"user": user}},
            **({"scope": scope} if scope else {}),
        }
        _, headers, _ = self._send("POST", "/v3/auth/tokens", {"auth": auth})
        return headers["X-Subject-Token"]

    def revoke(self, token):
        """Take a token back."""
        self._send("DELETE", "/v3/auth/tokens", None, self._token, {"X-Subject-Token": token})

    def _admin(self, method, path, body=None):
        return self._send(method, path, body, self._token)[2]

    def _send(self, method, path, body=None, token=None, headers=None):
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, headers or {}, method=method)
        if data is not None:
            request.add_header("Content-Type", "application/json")
        if token is not None:
            request.add_header("X-Auth-Token", token)
        try:
            with urllib.request.urlopen(request, timeout=30) as answer:
                raw = answer.read()
                return answer.status, answer.headers, json.loads(raw) if raw else None
        except urllib.error.HTTPError as refused:
            with refused:
                raise AssertionError(f"{method} {path}: {refused.read().decode()}") from refused


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
