"""How devices tell their health to the hub, and how the operator's page asks for it; see hub/fleet.py.

The one rule: only a device with a pass of this hub is heard, and only an operator is told.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from aiohttp import web

from voicemeet_edge.errors import MessageError
from voicemeet_edge.hub.admission import Admission
from voicemeet_edge.hub.answers import bearer, json_answer, parse_body, read_body, refuse
from voicemeet_edge.hub.fleet import Fleet, Health
from voicemeet_edge.hub.operator_page import API, OperatorPage
from voicemeet_edge.hub.refusal import RefusedError
from voicemeet_edge.hub.shares import Shares
from voicemeet_edge.hub.tokens import Tokens

TELL_PATH = "/fleet/v1/health"


class FleetPage:
    """One route for devices, one for the operator."""

    def __init__(
        self, tokens: Tokens, admission: Admission, shares: Shares, unix: Callable[[], float]
    ) -> None:
        self._tokens, self._admission, self._shares, self._unix = tokens, admission, shares, unix
        self.fleet = Fleet()

    def attach(self, app: web.Application, operator: OperatorPage) -> None:
        """Add the routes."""
        app.router.add_post(TELL_PATH, self._hear)
        app.router.add_get(f"{API}/fleet", operator.guarded(self._tell))

    async def _tell(self, _body: Mapping[str, object]) -> dict[str, object]:
        return {"devices": self.fleet.list(time.monotonic())}

    async def _hear(self, request: web.Request) -> web.Response:
        try:
            claims = self._tokens.read_device(bearer(request), self._unix())
            self._shares.device(claims.device, time.monotonic())
            if self._admission.book.of_id(claims.pass_id) is None:
                raise RefusedError(403, "pass_needed", "only a device with a pass tells its health here")
            health = Health.parse(parse_body(await read_body(request)))
        except RefusedError as refused:
            return refuse(refused)
        except MessageError as error:
            return refuse(RefusedError(400, "bad_request", str(error)))
        self.fleet.tell(health, time.monotonic())
        return json_answer(200, {"ok": True})
