"""Who the client is when a reverse proxy stands before us."""

from __future__ import annotations

import re
from collections.abc import Sequence
from ipaddress import IPv4Network, IPv6Network, ip_address

from aiohttp import web
from aiohttp.typedefs import Handler, Middleware

from k2k.web.problems import REQUEST_ID

REQUEST = re.compile(r"[0-9a-f]{32}")
Network = IPv4Network | IPv6Network


def behind(proxies: Sequence[Network]) -> Middleware:
    """Makes `request.remote` and `request.scheme` those of the client, as proxies tell them, and takes over their id.

    Only a peer in one of the networks `proxies` is believed. X-Forwarded-For is read from its end: each proxy adds the
    address it heard from, so the first one that is no proxy of ours is the client; what stands before it is hearsay.
    """

    @web.middleware
    async def believe(request: web.Request, handler: Handler) -> web.StreamResponse:
        if request.remote is None or not _within(request.remote, proxies):
            return await handler(request)
        told = [part.strip() for line in request.headers.getall("X-Forwarded-For", ()) for part in line.split(",")]
        client = next((address for address in reversed(told) if not _within(address, proxies)), request.remote)
        scheme = request.headers.get("X-Forwarded-Proto", request.scheme)
        if not _is_address(client) or scheme not in ("http", "https"):
            return await handler(request)
        believed = request.clone(remote=client, scheme=scheme)
        if REQUEST.fullmatch(request.headers.get("X-Request-ID", "")):
            believed[REQUEST_ID] = request.headers["X-Request-ID"]
        try:
            return await handler(believed)
        finally:  # aiohttp sends the answer as that to the request it knows; what its headers tell stands on the clone
            request.update(believed)

    return believe


def _within(text: str, networks: Sequence[Network]) -> bool:
    return _is_address(text) and any(ip_address(text) in network for network in networks)


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True
