"""The hub's port; the one rule: it is taken before anything else is started or written.

A second hub on the same machine so ends before it has touched what belongs to the first.
"""

from __future__ import annotations

import errno
import socket
from contextlib import ExitStack, suppress

from voicemeet_edge.errors import EnvironmentFault
from voicemeet_edge.hub.settings import HttpSettings

IP_FREEBIND = 15  # linux/in.h; Python has no name for it, and it serves IPv6 sockets too
BACKLOG = 4_096  # connections the kernel may hold before we accept them: a building after a power cut


class HubError(EnvironmentFault):
    """The hub cannot listen."""

    code = "hub"


def _why(port: int, error: OSError) -> str:
    said = f"cannot listen on port {port} ({error.strerror})"
    if error.errno == errno.EADDRINUSE:
        return f"{said}: does a hub run already? `ss -ltnp` says who has it; http.port takes another"
    if error.errno == errno.EACCES:
        return f"{said}: ports below 1024 are root's; http.port takes another, such as 8443"
    return said


def take_port(settings: HttpSettings) -> tuple[list[socket.socket], int]:
    """Listen on all addresses with one port; return the sockets and the port (the kernel's choice for 0).

    Who connects from now on waits in the kernel until the hub accepts. An address may come later.

    Raises:
        HubError: the port is taken, or not ours to take.
    """
    port = settings.port
    with ExitStack() as undo:
        sockets: list[socket.socket] = []
        for address in settings.listen:
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            one = undo.enter_context(socket.socket(family, socket.SOCK_STREAM))
            one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family is socket.AF_INET6:
                one.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            # An address that is not there yet: after a power cut the hub is up before the network.
            with suppress(OSError):  # then such an address is refused, and said
                one.setsockopt(socket.IPPROTO_IP, IP_FREEBIND, 1)
            try:
                one.bind((address, port))
                one.listen(BACKLOG)
            except OSError as error:
                raise HubError(_why(port, error)) from None
            one.setblocking(False)
            port = int(one.getsockname()[1])
            sockets.append(one)
        undo.pop_all()
    return sockets, port
