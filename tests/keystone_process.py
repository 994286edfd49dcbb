"""Sets up an OpenStack Keystone in an empty folder and serves it; run by its own Python.

Usage: keystone_process.py FOLDER PORT PASSWORD. Prints ``up`` once it answers. Every request is
written to FOLDER/requests as ``METHOD /path``.
"""

import base64
import os
import secrets
import sys
import warnings
from pathlib import Path
from socketserver import ThreadingMixIn
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

warnings.simplefilter("ignore")

FOLDER, PORT, PASSWORD = Path(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
CONFIG = FOLDER / "keystone.conf"


def configure():
    keys = FOLDER / "keys"
    keys.mkdir(mode=0o700)
    for number in "01":
        (keys / number).write_bytes(base64.urlsafe_b64encode(secrets.token_bytes(32)))
    CONFIG.write_text(
        f"""
        [DEFAULT]
        use_stderr = false
        log_file = {FOLDER}/keystone.log
        [database]
        connection = sqlite:///{FOLDER}/keystone.db
        [fernet_tokens]
        key_repository = {keys}
        [fernet_receipts]
        key_repository = {keys}
        [cache]
        enabled = false
        [identity]
        # The least there is: tests make many users.
        password_hash_rounds = 4
        """.replace("\n        ", "\n")
    )


def manage(*arguments):
    """Run keystone-manage in a child, which need not import everything again."""
    from keystone.cmd import cli

    child = os.fork()
    if not child:
        cli.main(argv=["keystone-manage", "--config-file", str(CONFIG), *arguments])
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        sys.exit(f"keystone-manage {arguments[0]} failed; see {FOLDER}/keystone.log")


class Counted:
    """Keystone, with a note of every request."""

    def __init__(self, app):
        self.app = app
        self.notes = (FOLDER / "requests").open("a")

    def __call__(self, environ, start_response):
        self.notes.write(f"{environ['REQUEST_METHOD']} {environ['PATH_INFO']}\n")
        self.notes.flush()
        return self.app(environ, start_response)


class Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class Quiet(WSGIRequestHandler):
    def log_message(self, *_):
        pass


configure()
manage("db_sync")
manage(
    "bootstrap",
    *("--bootstrap-password", PASSWORD),
    *("--bootstrap-public-url", f"http://127.0.0.1:{PORT}/v3"),
)
sys.argv = sys.argv[:1]
from keystone.server.flask import core  # noqa: E402

application = core.initialize_application(name="public", config_files=[str(CONFIG)])
server = make_server(
    "127.0.0.1", PORT, Counted(application), server_class=Server, handler_class=Quiet
)
print("up", flush=True)
server.serve_forever()
