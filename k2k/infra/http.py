"""The only way out to addresses that others name: webhooks, OpenID providers, previews of links.

Whoever names an address must not reach through us what only we can reach. So the rule about addresses stands where
the socket is made: whatever a name resolved to, however a number was spelled and wherever a redirect led, nothing is
connected that did not pass it, and nothing can change in between. Every exchange has one deadline and one size.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address
from types import TracebackType
from typing import Literal, Self

import aiohttp
import structlog
from aiohttp import hdrs
from aiohttp.abc import AbstractResolver
from yarl import URL

from k2k.core.errors import AddressNotAllowed, Unavailable

log = structlog.get_logger()

USER_AGENT = "Key2Key"
PORTS = frozenset({80, 443, 8443})
MAXIMUM_URL = 2048
MAXIMUM_REDIRECTS = 3
# How long one address of a name may take before the next is tried.
CONNECT_SECONDS = 3.0

# Global unicast is 2000::/3; of it, what leads elsewhere or nowhere: protocol assignments (with Teredo), documentation,
# 6to4 (retired, and it wraps an IPv4 address).
_UNICAST = IPv6Network("2000::/3")
_SPECIAL_IPV6 = tuple(map(IPv6Network, ("2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")))
# What Python's is_global leaves in, or did in some release: protocol assignments, and the relays of 6to4.
_SPECIAL_IPV4 = tuple(map(IPv4Network, ("192.0.0.0/24", "192.88.99.0/24")))
# Behind NAT64 a public IPv4 address is reached in here.
_NAT64 = IPv6Network("64:ff9b::/96")


@dataclass(frozen=True, slots=True)
class ForeignAnswer:
    """What the other side answered, whatever its status."""

    status: int
    headers: Mapping[str, str]
    body: bytes


class Outbound:
    """Calls foreign addresses. Made inside the running loop, closed with it: `async with Outbound() as outbound`.

    `seconds` bounds a whole exchange, from the name to the last byte and over all redirects; `body_kib` an answer,
    counted after decompression. `exempt` is one (address, port) allowed in spite of the rules, for tests; `resolver`
    stands in for the system's.
    """

    def __init__(
        self,
        *,
        seconds: float = 10.0,
        body_kib: int = 1024,
        exempt: tuple[str, int] | None = None,
        resolver: AbstractResolver | None = None,
    ) -> None:
        self._seconds = seconds
        self._most = body_kib * 1024
        self._exempt = exempt
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                socket_factory=self._socket,
                # One address after the other: what a refusal raises must not get lost among parallel attempts.
                happy_eyeballs_delay=None,
                limit_per_host=4,
                use_dns_cache=False,
                resolver=resolver,
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            headers={hdrs.USER_AGENT: USER_AGENT},
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_SECONDS),
            trust_env=False,  # no proxy and no netrc out of the environment
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close idle connections."""
        await self._session.close()

    async def request(
        self,
        method: Literal["GET", "POST"],
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
        redirects: int = 0,
    ) -> ForeignAnswer:
        """What `url` answers.

        A GET follows up to `redirects` (at most 3), each held to the same rules, never from https to http; to
        another origin `headers` are not taken along. Beyond that, a redirect is an answer like any other.
        Raises AddressNotAllowed, and Unavailable if the other side fails, is too slow or says too much.
        """
        if method != "GET":
            redirects = 0
        try:
            async with asyncio.timeout(self._seconds):
                return await self._follow(method, _parsed(url), headers or {}, body, min(redirects, MAXIMUM_REDIRECTS))
        except (aiohttp.InvalidURL, UnicodeError) as error:
            raise AddressNotAllowed from error
        except (aiohttp.ClientError, OSError) as error:  # TimeoutError is one
            log.info("foreign server failed", error=type(error).__name__)
            raise Unavailable("The other server did not answer as it should") from error

    async def _follow(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None, redirects: int
    ) -> ForeignAnswer:
        while True:
            answer, target = await self._exchange(method, url, headers, body)
            if target is None or redirects == 0:
                return answer
            redirects -= 1
            following = _parsed(str(url.join(target)))
            if url.scheme == "https" and following.scheme == "http":
                raise AddressNotAllowed
            if following.origin() != url.origin():
                headers = {}
            url = following

    async def _exchange(
        self, method: str, url: URL, headers: Mapping[str, str], body: bytes | None
    ) -> tuple[ForeignAnswer, URL | None]:
        """One request: the answer, and where it redirects to if it does."""
        asked = self._session.request(method, url, headers=headers, data=body, allow_redirects=False)
        async with asked as response:
            received = bytearray()
            async for part in response.content.iter_chunked(64 * 1024):
                received += part
                if len(received) > self._most:
                    raise Unavailable("The other server's answer is too large")
            answer = ForeignAnswer(response.status, response.headers, bytes(received))
            location = response.headers.get(hdrs.LOCATION)
            if response.status not in {301, 302, 303, 307, 308} or location is None:
                return answer, None
            try:
                return answer, URL(location)
            except ValueError as error:
                raise AddressNotAllowed from error

    def _socket(self, target: aiohttp.AddrInfoType) -> socket.socket:
        """A socket for exactly this address, if it may be called. Raises AddressNotAllowed."""
        family, type_, proto, _, (address, port, *_) = target
        if (address, port) != self._exempt and not (port in PORTS and is_public(str(address))):
            raise AddressNotAllowed
        return socket.socket(family, type_, proto)


def is_public(address: str) -> bool:
    """Whether an IP address is reached over the public internet, also where it wraps an IPv4 address."""
    ip = ip_address(address)
    if ip.version == 6:
        embedded = ip.ipv4_mapped or (IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None)
        if embedded is None:
            return ip in _UNICAST and not any(ip in network for network in _SPECIAL_IPV6)
        ip = embedded
    return ip.is_global and not ip.is_multicast and not any(ip in network for network in _SPECIAL_IPV4)


def _parsed(url: str) -> URL:
    """The URL, if it names a server over http or https and no person. Raises AddressNotAllowed."""
    try:
        parsed = URL(url)
    except ValueError as error:
        raise AddressNotAllowed from error
    named = parsed.scheme in {"http", "https"} and parsed.raw_host and parsed.raw_authority.count("@") == 0
    if len(url) > MAXIMUM_URL or not named:
        raise AddressNotAllowed
    return parsed
