"""Who the client is when a reverse proxy stands before us."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from k2k.web.problems import REQUEST_ID

REQUEST = re.compile(r"[0-9a-f]{32}")
WITH_PORT = re.compile(r"\[(?P<six>.*)\](:\d+)?|(?P<four>[\d.]+):\d+")
Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network


def behind(proxies: Sequence[Network]) -> Middleware:
    """Makes `request.remote` and `request.scheme` those of the client, as proxies tell them, and takes over their id.

    Only a peer in one of the networks `proxies` is believed. X-Forwarded-For is read from its end: each proxy adds the
    address it heard from, so the first one that is no proxy of ours is the client; what stands before it is hearsay.
    """

    @web.middleware
    async def believe(request: web.Request, handler: Handler) -> web.StreamResponse:
        if not proxies or not _within(_address(request.remote or ""), proxies):
            return await handler(request)
        believed = request.clone(remote=_client(request, proxies), scheme=_scheme(request))
        if REQUEST.fullmatch(request.headers.get("X-Request-ID", "")):
            believed[REQUEST_ID] = request.headers["X-Request-ID"]
        try:
            return await handler(believed)
        finally:  # aiohttp sends the answer as that to the request it knows; what its headers tell stands on the clone
            request.update(believed)

    return believe


def _client(request: web.Request, proxies: Sequence[Network]) -> str:
    """The last address that is no proxy's; where what stands there is no address, the proxy that wrote it down."""
    client = _address(request.remote or "")
    told = ",".join(request.headers.getall("X-Forwarded-For", ())).split(",")
    while told and _within(client, proxies):
        before = _address(told.pop().strip())
        if before is None:
            break
        client = before
    return str(client)


def _scheme(request: web.Request) -> str:
    """What the nearest proxy says, the last of several, if it is a scheme of ours."""
    told = ",".join(request.headers.getall("X-Forwarded-Proto", ())).rpartition(",")[2].strip()
    return told if told in ("http", "https") else request.scheme


def _within(address: Address | None, networks: Sequence[Network]) -> bool:
    return address is not None and any(address in network for network in networks)


def _address(text: str) -> Address | None:
    """The address without port and zone, unmapped where it is IPv4 within IPv6; None where it is none."""
    if found := WITH_PORT.fullmatch(text):
        text = found["four"] or found["six"]
    try:
        address = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
