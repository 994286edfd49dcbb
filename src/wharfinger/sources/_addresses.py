"""Which network addresses a registry may be reached at."""

from __future__ import annotations

import ipaddress
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import msgspec

from wharfinger.domain.errors import AddressRefusedError

# Cloud metadata services: they hand out credentials to whoever asks from the machine itself.
_METADATA = frozenset(
    ipaddress.ip_address(text)
    for text in (
        "169.254.169.254",
        "fd00:ec2::254",
        "100.100.100.200",
        "168.63.129.16",
        "192.0.0.192",
        "fd20:ce::254",
    )
)
_BROADCAST = IPv4Address("255.255.255.255")
_NAT64 = (IPv6Network("64:ff9b::/96"), IPv6Network("64:ff9b:1::/48"))
_IPV4_COMPATIBLE = IPv6Network("::/96")


class AddressPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be connected to.

    Public addresses always may. Loopback, private, unique local, shared (CGNAT) and translated
    addresses may with ``allow_private``; link-local, multicast, unspecified, broadcast and cloud
    metadata addresses only where ``allow_networks`` names them.
    """

    allow_private: bool = False
    allow_networks: tuple[IPv4Network | IPv6Network, ...] = ()

    def check(self, address: str, *, host: str) -> None:
        """Refuse ``address``, to which ``host`` was resolved, if it may not be reached.

        Raises:
            AddressRefusedError: with the address and the reason.
        """
        why = self._objection(ipaddress.ip_address(address.partition("%")[0]))
        if why:
            shown = address if address == host else f"{host} ({address})"
            raise AddressRefusedError(f"{shown} is {why}, which this registry may not reach")

    def _objection(self, address: IPv4Address | IPv6Address) -> str:
        inner = _embedded(address)
        candidates = (address,) if inner is None else (address, inner)
        if any(one in network for network in self.allow_networks for one in candidates):
            return ""
        for one in candidates:
            if why := _never_unless_named(one):
                return why
        if self.allow_private:
            return ""
        if inner is not None:
            return "an IPv4 address in disguise"
        if address.is_loopback:
            return "a loopback address"
        return "" if address.is_global else "a private address"


def literal_address(host: str) -> str | None:
    """Return the IP address a URL's host spells out, or ``None`` if it is a name.

    Decimal, octal and hexadecimal spellings are names here: the resolver turns them into
    addresses, which are checked like any other answer.
    """
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        return None


def _embedded(address: IPv4Address | IPv6Address) -> IPv4Address | None:
    """Return the IPv4 address that a transition mechanism wraps into an IPv6 one."""
    if isinstance(address, IPv4Address):
        return None
    found = address.ipv4_mapped or address.sixtofour
    if found is None and address.teredo is not None:
        found = address.teredo[1]
    if found is None and any(address in network for network in _NAT64):
        found = IPv4Address(int(address) & 0xFFFFFFFF)
    if found is None and address in _IPV4_COMPATIBLE and int(address) > 1:
        found = IPv4Address(int(address))
    return found


def _never_unless_named(address: IPv4Address | IPv6Address) -> str:
    if address in _METADATA:
        return "a cloud metadata address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_unspecified:
        return "the unspecified address"
    if address.is_multicast:
        return "a multicast address"
    return "the broadcast address" if address == _BROADCAST else ""
