"""Takes over a certificate that was renewed, while the hub runs; the one rule: never half of a new pair."""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import Callable

from voicemeet_edge.hub.tls import HubTls, stamp_of
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

LOOK_S = 60.0  # s between looks; renewals come weeks before the old one's end


class CertificateWatch:
    """Looks at the two files, and gives what is new to the context that new connections are made with."""

    def __init__(self, tls: HubTls, renewed: Callable[[], None]) -> None:
        """`renewed` is called after a new pair was taken over."""
        self._tls = tls
        self._renewed = renewed
        self._now = asyncio.Event()
        self._taken = tls.stamp
        self._refused: object = None

    def look_now(self) -> None:
        """Do not wait for the next look: somebody says that the files are new."""
        self._now.set()

    async def run(self) -> None:
        """Look until cancelled."""
        while True:
            self._now.clear()
            try:
                async with timeout(LOOK_S):
                    await self._now.wait()
            except TimeoutError:
                pass
            if await self.take_over():
                logger.info("the renewed certificate is in use")
                self._renewed()

    async def take_over(self) -> bool:
        """Load what is new, if it is a pair; the old one serves until it is."""
        stamp = await asyncio.to_thread(self._look)
        if stamp is None:
            return False
        # Here and not in a thread: key and certificate are set one after the other, and no handshake may
        # begin in between.
        if not _load(self._tls.context, self._tls):
            return False
        self._taken = stamp
        return True

    def _look(self) -> object:
        """Return the stamp of a new pair that fits, None when there is none; blocking."""
        stamp = stamp_of(self._tls.certificate, self._tls.key)
        if stamp is None or stamp in (self._taken, self._refused):
            return None
        # Certificate and key are two files: while only one is new they do not fit, and a context that was
        # given such a pair would serve nobody.
        if _load(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), self._tls):
            return stamp
        self._refused = stamp
        return None


def _load(context: ssl.SSLContext, tls: HubTls) -> bool:
    try:
        context.load_cert_chain(tls.certificate, tls.key)
    except (OSError, ValueError) as error:
        logger.warning("the new certificate cannot be used, the old one stays: %s", type(error).__name__)
        return False
    return True
