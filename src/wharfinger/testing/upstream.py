"""The bundled upstream: SWR of both editions and IAM over one world, with faults on demand."""

from __future__ import annotations

import argparse
import asyncio
import email.utils
import secrets
from typing import Unpack

import msgspec

from wharfinger.testing.faults import Answer, Asked, Fault, When, json_answer
from wharfinger.testing.iam import Iam, NotAuthenticError
from wharfinger.testing.model import AccessKey, World, made_up_world
from wharfinger.testing.sample import sample_world
from wharfinger.testing.server import LoopbackServer
from wharfinger.testing.swr import Swr
from wharfinger.testing.swr_enterprise import SwrEnterprise


class Upstream(LoopbackServer):
    """SWR basic v2 and v3, SWR enterprise and IAM on one loopback port.

    Every call needs an ``SDK-HMAC-SHA256`` signature by a key of the world, or a token issued by
    this server; anything else gets the gateway's 401.

    Attributes:
        world: what it knows; change it at any time, from any thread.
        iam: tokens (``issue``, ``revoke_all``, ``token_lifetime_s``).
        swr: the basic edition (``strict_paging``, ``default_order``, ``error_generation``).
        enterprise: the enterprise edition, over ``world.instances``.
        world_date: send the world's clock as the ``Date`` header instead of the real time.
    """

    def __init__(
        self,
        world: World | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        error_generation: int = 3,
        token_lifetime_s: float = 24 * 3600,
    ) -> None:
        super().__init__(host=host, port=port)
        self.world = world or World()
        self.iam = Iam(self.world, token_lifetime_s=token_lifetime_s)
        self.swr = Swr(self.world, error_generation=error_generation)
        self.enterprise = SwrEnterprise(self.world, error_generation=error_generation)
        self.world_date = False

    @property
    def key(self) -> AccessKey:
        """The home account's key pair."""
        return self.world.access_key()

    def token(self, account: str = "", *, lifetime_s: float | None = None) -> str:
        """A token of the account (by default ``home``), issued without asking over HTTP."""
        return self.iam.issue(account, lifetime_s=lifetime_s)

    def swr_throttle(self, path: str, **when: Unpack[When]) -> Fault:
        """Throttle as SWR does: 403 ``SVCSTG.SWR.4031032``."""
        return self._refuse(path, 403, "SVCSTG.SWR.4031032", "Too many requests", when)

    def token_expired(self, path: str, **when: Unpack[When]) -> Fault:
        """Answer 401 ``SVCSTG.SWR.4010000``, whatever the credentials."""
        return self._refuse(path, 401, "SVCSTG.SWR.4010000", "Token expired", when)

    def forbid(self, path: str, **when: Unpack[When]) -> Fault:
        """Answer 403 ``SVCSTG.SWR.4030170``: the policy does not allow it."""
        return self._refuse(path, 403, "SVCSTG.SWR.4030170", "Insufficient permissions", when)

    def break_down(self, path: str, **when: Unpack[When]) -> Fault:
        """Answer 500 ``SVCSTG.SWR.5001001``."""
        return self._refuse(path, 500, "SVCSTG.SWR.5001001", "Internal server error", when)

    def _refuse(self, path: str, status: int, code: str, message: str, when: When) -> Fault:
        return self.faults.instead(path, lambda _: self.swr.error(status, code, message), **when)

    def respond(self, asked: Asked) -> Answer:
        """The true answer to a request."""
        with self.world.lock:
            answer = self._route(asked)
            moment = self.world.clock.now() if self.world_date else None
        if moment is None:
            return answer
        return answer.with_headers(Date=email.utils.format_datetime(moment, usegmt=True))

    def _route(self, asked: Asked) -> Answer:
        try:
            of_iam = self.iam.respond(asked)
            if of_iam is not None:
                return of_iam
            account = self.iam.account_of(asked)
        except NotAuthenticError as refused:
            return _gateway_error(401, refused.code, str(refused))
        answer = self.swr.respond(asked, account) or self.enterprise.respond(asked, account)
        return answer or _gateway_error(
            404, "APIGW.0101", "The API does not exist or has not been published in the environment"
        )


def _gateway_error(status: int, code: str, message: str) -> Answer:
    request_id = secrets.token_hex(16)
    body = {"error_msg": message, "error_code": code, "request_id": request_id}
    return json_answer(body, status=status, X_Request_Id=request_id)


async def _serve(upstream: Upstream) -> None:
    async with upstream:
        print(msgspec.json.encode(_greeting(upstream)).decode(), flush=True)  # noqa: T201 - for the caller to read
        await asyncio.Event().wait()


def _greeting(upstream: Upstream) -> dict[str, str]:
    home = upstream.world.home
    return {
        "url": upstream.url,
        "access_key": upstream.key.access_key,
        "secret_key": upstream.key.secret_key,
        "token": upstream.token(),
        "account": home.name,
        "password": home.password,
        "project_id": home.project_id,
        "domain_id": home.domain_id,
        "region": upstream.world.region,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m wharfinger.testing.upstream")
    parser.add_argument("--listen", default="127.0.0.1:0", metavar="HOST:PORT")
    parser.add_argument(
        "--sample", action="store_true", help="a believable SWR of 300 repositories"
    )
    parser.add_argument("--repositories", type=int, default=0, metavar="N")
    parser.add_argument("--tags", type=int, default=20, metavar="M", help="of each repository")
    return parser.parse_args()


def main() -> None:
    """Serve until killed; the first line on standard output is a JSON object with the access."""
    chosen = _arguments()
    host, _, port = chosen.listen.rpartition(":")
    world = sample_world() if chosen.sample else made_up_world(chosen.repositories, chosen.tags)
    world.clock.follow_real_time()
    try:
        asyncio.run(_serve(Upstream(world, host=host, port=int(port))))
    except KeyboardInterrupt:
        return


if __name__ == "__main__":
    main()
