"""What a report leads to; the one rule: it is always kept, and counts only between strangers who talked.

A report raises a score when it is about a call of an open pool between two of role `either`, when both
were in the call's topic for some seconds after offer and answer, and once a day for a reported party and
the reporter's address: many reports from one address are one. All others are for the operator to read.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable

from voicemeet_edge.backend.verbs import Role, Slot
from voicemeet_edge.hub.admission import Admission
from voicemeet_edge.hub.calls import Call, Calls
from voicemeet_edge.hub.risk import RiskBook, Score
from voicemeet_edge.hub.store import Report, Store
from voicemeet_edge.hub.tokens import CallClaims, Tokens

PAIR_S = 86_400.0  # s in which a second report of the same pair adds nothing
MAX_PAIRS = 50_000  # pairs remembered, about 10 MB; the oldest go first


class Complaints:
    """The reports of one hub, on their way into the store."""

    def __init__(
        self,
        calls: Calls,
        risk: RiskBook,
        store: Store,
        tokens: Tokens,
        admission: Admission,
        wall: Callable[[], float],
    ) -> None:
        self._calls = calls
        self._risk = risk
        self._store = store
        self._tokens = tokens
        self._admission = admission
        self._wall = wall
        self._pairs: OrderedDict[tuple[str, str], float] = OrderedDict()

    async def file(self, claims: CallClaims, call: Call | None, reason: str, address: str, now: float) -> str:
        """Keep a report of this slot about the other one; return its receipt, the same at each try."""
        receipt = self._tokens.receipt(claims.call_id, claims.slot)
        reported, pool, pass_id = None, "", ""
        changed: list[tuple[str, Score]] = []
        if call is not None:
            side, about = call.side(claims.slot), call.side(_other(claims.slot))
            reported, pool, pass_id = about.device, call.match.pool, about.pass_id
            if side.reported is None:
                side.reported_from = address
                # Kept, so that a second try after a full disk stores this rise and makes no new one.
                side.reported = self._weigh(call, claims.slot, now)
            changed = side.reported
        report = Report(receipt, reported, reason, int(self._wall()), pool=pool, pass_id=pass_id)
        await self._store.add_report(report, changed)
        return receipt

    async def count_ripe(self, now: float) -> None:
        """Count the reports whose call has lasted long enough since they were filed."""
        for call, slot in self._calls.now_counting(now):
            changed = self._weigh(call, slot, now)
            if changed:
                await self._store.save_scores(changed)

    def _weigh(self, call: Call, slot: Slot, now: float) -> list[tuple[str, Score]]:
        match = call.match
        if not self._admission.is_open(match.pool) or (match.role_a, match.role_b) != (
            Role.EITHER,
            Role.EITHER,
        ):
            return []
        if not call.has_talked(now):
            self._calls.count_later(call, slot)
            return []
        reported = call.side(_other(slot)).device
        pair = (call.side(slot).reported_from, reported)
        if self._pairs.get(pair, 0.0) > now:
            return []
        self._pairs.pop(pair, None)
        self._pairs[pair] = now + PAIR_S
        while len(self._pairs) > MAX_PAIRS:
            self._pairs.popitem(last=False)
        return self._risk.report(reported, now)


def _other(slot: Slot) -> Slot:
    return "b" if slot == "a" else "a"
