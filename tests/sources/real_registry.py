"""Debian's docker-registry on a loopback port, and images to push into it over plain HTTP."""

import contextlib
import hashlib
import http.client
import json
import shutil
import socket
import subprocess
import time
from urllib.parse import urlsplit

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

USER, PASSWORD = "u", "correct-horse"
# bcrypt of PASSWORD, the only hash that docker-registry takes.
HTPASSWD = "u:$2y$05$abcdefghijklmnopqrstuuZ0Fx87Pb/Aqb0E90lfvCwzXnaFKUHpS\n"

MISSING = (
    None
    if shutil.which("docker-registry")
    else "needs docker-registry: apt-get install docker-registry"
)


@contextlib.contextmanager
def running_registry(folder, *, htpasswd=False, notify=None):
    """Start a registry over an empty folder and stop it afterwards.

    ``notify`` is (URL, token): where it tells of every push and deletion.
    """
    port = _free_port()
    config = folder / "config.json"
    (folder / "htpasswd").write_text(HTPASSWD)
    settings = {
        "version": 0.1,
        "log": {"level": "error", "accesslog": {"disabled": True}},
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "data")},
            "delete": {"enabled": True},
        },
        "http": {"addr": f"127.0.0.1:{port}", "secret": "made-up"},
    }
    if htpasswd:
        settings["auth"] = {"htpasswd": {"realm": "here", "path": str(folder / "htpasswd")}}
    if notify is not None:
        endpoint = {
            "name": "wharfinger",
            "url": notify[0],
            "headers": {"Authorization": [f"Bearer {notify[1]}"]},
            "timeout": "5s",
            "threshold": 3,
            "backoff": "1s",
        }
        settings["notifications"] = {"endpoints": [endpoint]}
    config.write_text(json.dumps(settings))  # JSON is YAML.
    process = subprocess.Popen(
        ["docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        registry = RealRegistry(f"http://127.0.0.1:{port}", htpasswd=htpasswd)
        registry.wait_until_up()
        yield registry
    finally:
        process.terminate()
        process.wait(10)


class RealRegistry:
    """Pushes images; every method returns the digest of what it pushed."""

    def __init__(self, url, *, htpasswd):
        self.url = url
        self._headers = {"Authorization": "Basic dTpjb3JyZWN0LWhvcnNl"} if htpasswd else {}

    def wait_until_up(self):
        for _ in range(200):
            with contextlib.suppress(OSError):
                if self.send("GET", "/v2/")[0] == 200:
                    return
            time.sleep(0.05)
        raise TimeoutError("docker-registry did not start")

    def push_image(self, name, reference=None, *, seed="x", created="2026-01-02T03:04:05Z", **more):
        platform = {"os": "linux", "architecture": "amd64", **more.pop("platform", {})}
        config = json.dumps({**platform, "created": created, "rootfs": {"seed": seed}}).encode()
        layer = f"layer {seed} {name}".encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._blob(name, config, "application/vnd.oci.image.config.v1+json"),
            "layers": [self._blob(name, layer, "application/vnd.oci.image.layer.v1.tar")],
            **more,
        }
        return self.push_manifest(name, reference, manifest)

    def push_artifact(self, name, reference, *, config_type, layer_type):
        manifest = {
            "schemaVersion": 2,
            "mediaType": OCI_MANIFEST,
            "config": self._blob(name, b"{}", config_type),
            "layers": [self._blob(name, b"payload", layer_type)],
        }
        return self.push_manifest(name, reference, manifest)

    def push_index(self, name, reference, children):
        """``children`` are (digest, media type, platform)."""
        manifests = [
            {
                "digest": digest,
                "mediaType": media_type,
                "size": 1,
                **({"platform": platform} if platform else {}),
            }
            for digest, media_type, platform in children
        ]
        index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": manifests}
        return self.push_manifest(name, reference, index)

    def push_manifest(self, name, reference, manifest):
        # Blanks that no serialiser would choose: only the raw bytes have this digest.
        raw = json.dumps(manifest, indent=3).encode() + b"\n"
        digest = digest_of(raw)
        path = f"/v2/{name}/manifests/{reference or digest}"
        status, _, body = self.send("PUT", path, raw, {"Content-Type": manifest["mediaType"]})
        assert status == 201, (status, body)
        return digest

    def delete(self, name, digest):
        status, _, _ = self.send("DELETE", f"/v2/{name}/manifests/{digest}")
        assert status == 202

    def _blob(self, name, raw, media_type):
        digest = digest_of(raw)
        _, headers, _ = self.send("POST", f"/v2/{name}/blobs/uploads/")
        location = urlsplit(headers["Location"])
        status, _, body = self.send("PUT", f"{location.path}?{location.query}&digest={digest}", raw)
        assert status == 201, (status, body)
        return {"mediaType": media_type, "digest": digest, "size": len(raw)}

    def send(self, method, target, body=b"", headers=None):
        connection = http.client.HTTPConnection(urlsplit(self.url).netloc, timeout=10)
        try:
            connection.request(method, target, body, {**self._headers, **(headers or {})})
            answer = connection.getresponse()
            return answer.status, dict(answer.getheaders()), answer.read()
        finally:
            connection.close()


def digest_of(raw):
    return "sha256:" + hashlib.sha256(raw).hexdigest()


def _free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
