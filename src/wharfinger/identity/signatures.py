"""The signing algorithms that are checked: HMAC with SHA-256 or SM3, derived keys, and ECDSA."""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Callable
from typing import Protocol

import msgspec
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hmac import HMAC
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from wharfinger.domain.errors import NotAuthenticatedError

# Told apart from an Authorization that signs nothing, and refused by name. No kept library that
# we know of checks SM2, and a check written in Python takes a quarter of a second.
NOT_CHECKED = frozenset({"SDK-SM2-SM3", "V11-HMAC-SM3", "V11-SM2-SM3", "V11-ECDSA-P256-SHA256"})
ECDSA = "SDK-ECDSA-P256-SHA256"

_P256_ORDER = 0xFFFFFFFF00000000FFFFFFFFFFFFFFFFBCE6FAADA7179E84F3B9CAC2FC632551
_NAMES = r"SignedHeaders=(?P<names>[^,\s]+),\s*Signature=(?P<signature>[0-9a-fA-F]{64,144})"
_ACCESS = re.compile(rf"Access=(?P<key>[!-+\--~]{{1,128}}),\s*{_NAMES}")
_SCOPED = re.compile(
    r"Credential=(?P<key>[!-+\--.0-~]{1,128})/(?P<info>(?P<day>\d{8})/[^/,\s]{1,64}/[^/,\s]{1,64}),"
    rf"\s*{_NAMES}"
)


class Claim(msgspec.Struct, frozen=True, kw_only=True):
    """What an ``Authorization`` header says. ``info`` is a derived key's day, region and service.

    It shows itself without the signature.
    """

    algorithm: str
    access_key: str
    signed_headers: tuple[str, ...]
    signature: str
    info: str = ""

    def __repr__(self) -> str:
        return f"Claim(algorithm={self.algorithm!r}, access_key={self.access_key!r})"


class Scheme(Protocol):
    """One algorithm. ``content_header`` is the header in which it may repeat the body's hash."""

    algorithm: str
    content_header: str

    def read(self, text: str) -> Claim:
        """Read what stands behind the algorithm's name in ``Authorization``.

        Raises:
            NotAuthenticatedError: it is something else.
        """
        ...

    def digest(self, data: bytes) -> str:
        """The hash of a body or of a canonical request, in hex."""
        ...

    def holds(self, claim: Claim, text: str, secret_key: str) -> bool:
        """Whether the claim's signature is that of a text under a secret key."""
        ...


class Sha256:
    """``SDK-HMAC-SHA256``, the default of every SDK."""

    algorithm = "SDK-HMAC-SHA256"
    content_header = "x-sdk-content-sha256"

    def read(self, text: str) -> Claim:
        """As ``Scheme.read``."""
        match = _ACCESS.fullmatch(text.strip())
        if match is None:
            raise NotAuthenticatedError(
                f"Authorization must read {self.algorithm} Access=…, SignedHeaders=…, Signature=…"
            )
        return _claim(self.algorithm, match)

    def digest(self, data: bytes) -> str:
        """As ``Scheme.digest``."""
        return hashlib.sha256(data).hexdigest()

    def holds(self, claim: Claim, text: str, secret_key: str) -> bool:
        """As ``Scheme.holds``."""
        expected = self._mac(secret_key.encode(), text.encode())
        return hmac.compare_digest(expected.hex(), claim.signature)

    def _mac(self, key: bytes, data: bytes) -> bytes:
        return hmac.digest(key, data, "sha256")


class Sm3(Sha256):
    """``SDK-HMAC-SM3``. The hash is ``cryptography``'s, since not every OpenSSL has it."""

    algorithm = "SDK-HMAC-SM3"
    content_header = "x-sdk-content-sm3"

    def digest(self, data: bytes) -> str:
        """As ``Scheme.digest``."""
        hashing = hashes.Hash(hashes.SM3())
        hashing.update(data)
        return hashing.finalize().hex()

    def _mac(self, key: bytes, data: bytes) -> bytes:
        mac = HMAC(key, hashes.SM3())
        mac.update(data)
        return mac.finalize()


class Derived(Sha256):
    """``V11-HMAC-SHA256``: the key is derived for one day, region and service."""

    algorithm = "V11-HMAC-SHA256"

    def read(self, text: str) -> Claim:
        """As ``Scheme.read``."""
        match = _SCOPED.fullmatch(text.strip())
        if match is None:
            raise NotAuthenticatedError(
                f"Authorization must read {self.algorithm}"
                " Credential=…/day/region/service, SignedHeaders=…, Signature=…"
            )
        return _claim(self.algorithm, match, info=match["info"])

    def holds(self, claim: Claim, text: str, secret_key: str) -> bool:
        """As ``Scheme.holds``."""
        kdf = HKDF(
            algorithm=hashes.SHA256(),
            length=32,
            salt=claim.access_key.encode(),
            info=claim.info.encode(),
        )
        # The SDK signs with the derived key's hexadecimal text.
        return super().holds(claim, text, kdf.derive(secret_key.encode()).hex())


class EcdsaP256(Sha256):
    """``SDK-ECDSA-P256-SHA256``: the private key is derived from the secret key."""

    algorithm = ECDSA

    def holds(self, claim: Claim, text: str, secret_key: str) -> bool:
        """As ``Scheme.holds``."""
        number = _private_number(claim.access_key, secret_key, self.algorithm)
        public = ec.derive_private_key(number, ec.SECP256R1()).public_key()
        try:
            signature = bytes.fromhex(claim.signature)
            public.verify(signature, text.encode(), ec.ECDSA(hashes.SHA256()))
        except (InvalidSignature, ValueError):
            return False
        return True


def schemes(*, ecdsa: bool) -> dict[str, Scheme]:
    """The algorithms that are checked, by name."""
    checked: list[Scheme] = [Sha256(), Sm3(), Derived()]
    if ecdsa:
        checked.append(EcdsaP256())
    return {scheme.algorithm: scheme for scheme in checked}


def text_to_sign(
    claim: Claim, canonical_request: str, date: str, digest: Callable[[bytes], str]
) -> str:
    """The text that is signed."""
    hashed = digest(canonical_request.encode("utf-8", "surrogateescape"))
    parts = (claim.algorithm, date, claim.info, hashed) if claim.info else None
    return "\n".join(parts or (claim.algorithm, date, hashed))


def _claim(algorithm: str, match: re.Match[str], *, info: str = "") -> Claim:
    return Claim(
        algorithm=algorithm,
        access_key=match["key"],
        signed_headers=tuple(match["names"].lower().split(";")),
        signature=match["signature"].lower(),
        info=info,
    )


def _private_number(access_key: str, secret_key: str, algorithm: str) -> int:
    """The SDK's counter-mode derivation: the first output that is in the curve's range."""
    for counter in range(0xFF):
        data = b"".join(
            (
                (1).to_bytes(4, "big"),
                algorithm.encode(),
                b"\0",
                access_key.encode(),
                bytes([counter]),
                (256).to_bytes(4, "big"),
            )
        )
        candidate = int.from_bytes(hmac.digest(secret_key.encode(), data, "sha256"), "big")
        if candidate <= _P256_ORDER - 2:
            return candidate + 1
    raise NotAuthenticatedError("verify aksk signature fail")
