"""What every request passes first: its wire is told, its Host and its way here are looked at.

The one rule: a name that is not ours, and plain HTTP that did not come through our own proxy, get nothing.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit

from aiohttp import hdrs, web
from aiohttp.typedefs import Handler, Middleware

from voicemeet_edge.hub.listener import wire_of
from voicemeet_edge.hub.settings import HttpSettings

Refuse = Callable[[int, str, str], web.StreamResponse]


def make_gate(settings: HttpSettings, refuse: Refuse) -> Middleware:
    """Return the middleware of a hub."""
    names = own_names(settings)
    # Behind a proxy that takes the TLS off, everybody else would be answered in the clear.
    only_proxies = settings.tls == "off" and bool(settings.trusted_proxies) and not settings.allow_plaintext
    proxies = frozenset(settings.trusted_proxies)

    @web.middleware
    async def gate(request: web.Request, handler: Handler) -> web.StreamResponse:
        wire = wire_of(request)
        if wire is not None:
            wire.request_begins()
        try:
            peer = request.remote or ""
            if only_proxies and peer not in proxies and not _is_loopback(peer):
                return refuse(403, "plaintext", "this hub is reached through its proxy, over https")
            if peer not in proxies and not is_own(request.headers.get(hdrs.HOST, ""), names):
                return refuse(421, "wrong_host", "this hub has no such name; settings: http.names")
            return await handler(request)
        finally:
            if wire is not None:
                wire.request_ends()

    return gate


def own_names(settings: HttpSettings) -> frozenset[str]:
    """Return the host names a hub answers to, in small letters."""
    hostname = socket.gethostname().lower()
    names = {"localhost", hostname, f"{hostname.partition('.')[0]}.local"}
    names |= {name.lower() for name in settings.names}
    if settings.public_url:
        names.add((urlsplit(settings.public_url).hostname or "").lower())
    return frozenset(names - {""})


def is_own(host: str, names: Iterable[str]) -> bool:
    """Say whether a Host header names this hub: one of its names, or any address.

    An address cannot be bound anew by somebody else's DNS, so it need not be known (DHCP may change it).
    """
    try:
        name = urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return False
    return name.rstrip(".") in names or _is_address(name)


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return False
    return True


def _is_loopback(text: str) -> bool:
    try:
        return ipaddress.ip_address(text).is_loopback
    except ValueError:
        return False
