"""Which network addresses a registry may be reached at."""

from __future__ import annotations

import ipaddress
import socket
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
        "fd00:42::42",
        "fd00:c1::a9fe:a9fe",
    )
)
_BROADCAST = IPv4Address("255.255.255.255")
# Linux takes 0.0.0.0 for itself, other systems all of "this network".
_THIS_NETWORK = IPv4Network("0.0.0.0/8")
# All that was ever given out to the public IPv6 internet.
_GLOBAL_UNICAST = IPv6Network("2000::/3")
_SIX_TO_FOUR = IPv6Network("2002::/16")
# What ends in an IPv4 address: compatible, mapped, translated (SIIT), and the prefixes of NAT64.
_ENDING_IN_IPV4 = tuple(
    IPv6Network(text) for text in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96")
)
_LOCAL_NAT64 = IPv6Network("64:ff9b:1::/48")
_ISATAP = (0x00005EFE, 0x02005EFE)


class AddressPolicy(msgspec.Struct, frozen=True, kw_only=True):
    """What may be connected to.

    Public addresses always may. Loopback, private, unique local, shared (CGNAT) and translated
    addresses may with ``allow_private``; link-local, multicast, unspecified, broadcast and cloud
    metadata addresses only where ``allow_networks`` names them, also where they hide in another.
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
        wrapped = _embedded(address)
        for one in (address, *wrapped):
            if not self._names(one) and (why := _never_unless_named(one)):
                return why
        if self.allow_private or self._names(address):
            return ""
        if wrapped:
            named = all(self._names(one) for one in wrapped)
            return "" if named else "an IPv4 address in disguise"
        if address.is_loopback:
            return "a loopback address"
        return "" if _is_public(address) else "a private address"

    def _names(self, address: IPv4Address | IPv6Address) -> bool:
        return any(address in network for network in self.allow_networks)


def literal_address(host: str) -> str | None:
    """Return the IP address a URL's host spells out, or ``None`` if it is a name.

    The system's resolver also takes ``2130706433``, ``0x7f.1`` and ``0177.0.0.1`` for addresses,
    and HTTP libraries differ in whether they ask it about them.
    """
    try:
        return str(ipaddress.ip_address(host.partition("%")[0]))
    except ValueError:
        pass
    try:
        return str(IPv4Address(socket.inet_aton(host)))
    except (OSError, UnicodeEncodeError):
        return None


def _embedded(address: IPv4Address | IPv6Address) -> tuple[IPv4Address, ...]:
    """Return the IPv4 addresses that a transition mechanism may take an IPv6 one for."""
    if isinstance(address, IPv4Address):
        return ()
    if address.teredo is not None:
        return address.teredo
    bits = int(address)
    found = []
    if address in _SIX_TO_FOUR:
        found.append(bits >> 80)
    if (bits >> 32) & 0xFFFFFFFF in _ISATAP:
        found.append(bits)
    # Up to ::1, it is no IPv4 address but IPv6's own "none" and loopback.
    if bits > 1 and any(address in network for network in _ENDING_IN_IPV4):
        found.append(bits)
    if address in _LOCAL_NAT64:
        # At the end, or around the octet that RFC 6052 leaves empty; the other place is zeros.
        around = (bits >> 64 & 0xFFFF) << 16 | (bits >> 40 & 0xFFFF)
        found = [around] if around >> 24 else [bits]
    return tuple(IPv4Address(one & 0xFFFFFFFF) for one in found)


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    if isinstance(address, IPv6Address) and address not in _GLOBAL_UNICAST:
        return False
    return address.is_global


def _never_unless_named(address: IPv4Address | IPv6Address) -> str:
    if address in _METADATA:
        return "a cloud metadata address"
    if address.is_link_local:
        return "a link-local address"
    if address.is_unspecified or address in _THIS_NETWORK:
        return "an unspecified address"
    if address.is_multicast:
        return "a multicast address"
    return "the broadcast address" if address == _BROADCAST else ""
