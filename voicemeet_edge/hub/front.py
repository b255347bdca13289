"""The hub's front door for browsers: the bare address leads to the desk, the certificate can be had."""

from __future__ import annotations

import asyncio

from aiohttp import web

from voicemeet_edge.hub.answers import COMMON_HEADERS, refuse
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.tls import HubTls


class Front:
    """Two addresses that people type."""

    def __init__(self, tls: HubTls | None) -> None:
        self._tls = tls

    def attach(self, app: web.Application) -> None:
        """Add them."""
        app.router.add_get("/", self._desk)
        app.router.add_get("/certificate.pem", self._certificate)

    async def _desk(self, _request: web.Request) -> web.Response:
        # Not for ever: what stands at the bare address may change, and a browser would remember.
        return web.Response(
            status=302, headers={**COMMON_HEADERS, "Location": "/desk/", "Cache-Control": "no-store"}
        )

    async def _certificate(self, _request: web.Request) -> web.Response:
        """Give the certificate without its key; its SHA-256 is the pin that the hub printed."""
        if self._tls is None:
            return refuse(RefusedError(404, "not_found", "this hub has no certificate: a proxy holds it"))
        headers = {
            **COMMON_HEADERS,
            "Cache-Control": "no-store",
            "Content-Type": "application/x-x509-ca-cert",
            # Windows opens a certificate by its name's end; the content is PEM there, too.
            "Content-Disposition": 'attachment; filename="voicemeet-hub.crt"',
        }
        return web.Response(body=await asyncio.to_thread(self._tls.certificate_pem), headers=headers)
