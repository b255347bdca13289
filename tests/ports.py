"""A port for a server that wants to be told one, and whose start comes later."""

from __future__ import annotations

import socket


def reserved_port() -> int:
    """Return a TCP port of loopback that the kernel gives nobody of its own accord for the next minute.

    A connection that ended on our side keeps its port for so long (TIME_WAIT). Who asks for this very port
    and sets SO_REUSEADDR, as servers do, gets it all the same.
    """
    with socket.create_server(("127.0.0.1", 0)) as door:
        port = int(door.getsockname()[1])
        with socket.create_connection(("127.0.0.1", port)) as caller:
            here, _ = door.accept()
            here.close()  # first, so that it is our side that keeps it
            caller.recv(1)
    return port
