"""The six verbs, apart from HTTP; the one rule: a refused request has changed nothing.

Joins the pure parts (matching, risk, limits, calls) with tokens, store and TURN. Nothing here logs
who asked.
"""

from __future__ import annotations

import asyncio
import logging
import secrets as random_secrets
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ..backend.verbs import (
    EndedRequest,
    LeaveRequest,
    MatchedReply,
    MatchReply,
    MatchRequest,
    OkReply,
    RenewReply,
    ReportReply,
    ReportRequest,
    SessionReply,
    Slot,
    Verb,
    WaitingReply,
)
from ..errors import BackendError, MessageError
from .calls import Call, Calls
from .limits import Limiter, Rate, address_key
from .matching import Matched, Matcher, MatchOptions
from .refusal import RefusedError, bad_token, too_fast
from .risk import RiskBook, RiskOptions, Score, Standing
from .settings import HubSettings
from .store import Report, Store, StoreError
from .tokens import CallClaims, Tokens
from .turn import Grant, TurnProvider

logger = logging.getLogger(__name__)

TURN_SLACK_S = 300.0  # s that TURN credentials outlive the longest call: for clocks and goodbyes
OLD_TOKEN_GRACE_S = 7 * 86_400.0  # s after its expiry in which a device token still hands its score on
SWEEP_INTERVAL_S = 5.0  # s between looks for waiters and calls whose time is over
PURGE_INTERVAL_S = 3_600.0  # s between purges of the store
MAX_REVOCATIONS = 1_000  # credentials waiting to be revoked; revoking is best effort
CALL_ID_BYTES = 16  # bytes: 128 random bits, the topic's own second lock

Push = Callable[[str, str, dict[str, object]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Asker:
    """Who asks: the bearer token ("" without one) and the address, for limits only."""

    bearer: str
    address: str


class Verbs:
    """One hub's verbs and what they remember."""

    def __init__(
        self,
        settings: HubSettings,
        tokens: Tokens,
        store: Store,
        turn: TurnProvider,
        push: Push,
        *,
        scores: list[tuple[str, Score]] | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] = time.time,
    ) -> None:
        """`push(topic, event, payload)` is the hub's own private broadcast; the clocks are for tests."""
        self._settings = settings
        self._tokens = tokens
        self._store = store
        self._turn = turn
        self._push = push
        self._monotonic = monotonic
        self._unix = unix
        match, risk, limits = settings.match, settings.risk, settings.limits
        self.matcher = Matcher(
            MatchOptions(
                poll_after_s=match.poll_after_s,
                waiter_timeout_s=match.waiter_timeout_s,
                avoid_repeat_s=match.avoid_repeat_s,
                repeat_after_s=match.repeat_after_s,
                max_waiting=match.max_waiting,
            ),
            new_call_id=lambda: random_secrets.token_hex(CALL_ID_BYTES),
            coin=lambda: bool(random_secrets.randbits(1)),
        )
        self.risk = RiskBook(
            RiskOptions(risk.report_weight, risk.half_life_s, risk.separate_at, risk.refuse_at), scores or ()
        )
        self.calls = Calls(
            max_call_s=settings.call.max_call_s,
            grace_s=settings.call.token_ttl_s + settings.call.report_grace_s,
        )
        self._by_address = Limiter(Rate(limits.address_per_s, limits.address_burst))
        self._sessions = Limiter(Rate(limits.session_per_s, limits.session_burst))
        self._by_device = Limiter(Rate(limits.device_per_s, limits.device_burst))
        self._reports = Limiter(Rate(limits.report_per_s, limits.report_burst))
        self._revocations: asyncio.Queue[Grant] = asyncio.Queue(MAX_REVOCATIONS)

    def admit(self, apikey: str, address: str) -> None:
        """Count a request of this address and check its apikey, before anything is read from it."""
        _pass(self._by_address.take(address_key(address), self._monotonic()))
        if not self._tokens.is_apikey(apikey):
            raise RefusedError(401, "bad_apikey", "the apikey header is missing or not ours")

    async def handle(self, verb: Verb, body: object, asker: Asker) -> dict[str, object]:
        """Answer an admitted request; RefusedError says why not."""
        try:
            if verb is Verb.MATCH:
                return (await self.match(MatchRequest.parse(body), asker)).serialize()
            if verb is Verb.SESSION:
                return (await self.session(asker)).serialize()
            if verb is Verb.RENEW:
                return (await self.renew(asker)).serialize()
            if verb is Verb.LEAVE:
                return (await self.leave(LeaveRequest.parse(body), asker)).serialize()
            if verb is Verb.REPORT:
                return (await self.report(ReportRequest.parse(body), asker)).serialize()
            return (await self.ended(EndedRequest.parse(body), asker)).serialize()
        except MessageError as error:
            raise RefusedError(400, "bad_request", str(error)) from None
        except StoreError as error:
            logger.error("%s (%s)", error, error.code)
            raise RefusedError(503, error.code, str(error), retry_after_s=10.0) from None
        except BackendError as error:
            raise RefusedError(503, error.code, str(error), retry_after_s=2.0) from None

    async def session(self, asker: Asker) -> SessionReply:
        """Give a device token; the old one hands its risk score on."""
        now = self._unix()
        old = self._tokens.read_device(asker.bearer, now, OLD_TOKEN_GRACE_S) if asker.bearer else None
        _pass(self._sessions.take(address_key(asker.address), self._monotonic()))
        token, device = self._tokens.make_device(now)
        if old is not None:
            changed = self.risk.rotate(old, device, now)
            if changed:
                await self._store.save_scores(changed)
        return SessionReply(token, self._tokens.device_ttl_s)

    async def match(self, request: MatchRequest, asker: Asker) -> MatchReply:
        """Find a partner for a ticket, or say how its search stands."""
        unix, now = self._unix(), self._monotonic()
        device = self._device(asker, unix, now)
        pools = self._settings.match.pools
        if pools and request.pool not in pools:
            raise RefusedError(404, "unknown_pool", "there is no such pool here")
        standing = self.risk.standing(device, unix)
        if standing is Standing.REFUSED:
            raise RefusedError(403, "refused_risk", "reported too often; this wears off with time")
        found = self.matcher.request(
            device,
            request.ticket,
            request.pool,
            request.role,
            flagged=standing is Standing.FLAGGED,
            now=now,
        )
        await self._wake(request.ticket)
        if isinstance(found, Matched):
            return await self._matched(found, unix)
        return WaitingReply(found.poll_after_s, self._tokens.make_wait(request.ticket, unix))

    async def renew(self, asker: Asker) -> RenewReply:
        """Give a fresh call JWT and fresh TURN credentials while the call lasts."""
        unix = self._unix()
        claims = self._tokens.read_call(asker.bearer, unix)
        self._limit_call(claims)
        call = self.calls.get(claims.call_id)
        if unix >= claims.until or (call is not None and claims.slot in call.ended):
            raise _call_over()
        grant = await self._turn.issue(claims.call_id, claims.slot, unix, claims.until + TURN_SLACK_S)
        if call is not None:
            call.grants[claims.slot] = grant
        token = self._tokens.make_call(claims.call_id, claims.slot, claims.until, unix)
        return RenewReply(token, self._tokens.call_ttl_s, grant.ice_servers, _ttl(grant, unix))

    async def leave(self, request: LeaveRequest, asker: Asker) -> OkReply:
        """Forget a ticket."""
        now = self._monotonic()
        device = self._device(asker, self._unix(), now)
        self.matcher.leave(device, request.ticket, now)
        await self._wake(request.ticket)
        return OkReply()

    async def report(self, request: ReportRequest, asker: Asker) -> ReportReply:
        """File a report about the other party; the same call and slot gives the same receipt again."""
        unix = self._unix()
        # A device may have been offline: its last JWT is good for a report for a while after expiry.
        claims = self._tokens.read_call(asker.bearer, unix, self._settings.call.report_grace_s)
        receipt = self._tokens.receipt(claims.call_id, claims.slot)
        call = self.calls.get(claims.call_id)
        reporter = call.device(claims.slot) if call is not None else f"{claims.call_id} {claims.slot}"
        if call is None or claims.slot not in call.reported:
            _pass(self._reports.take(reporter, self._monotonic()))
        reported: str | None = None
        changed: list[tuple[str, Score]] = []
        if call is not None:
            reported = call.device(_other(claims.slot))
            if claims.slot not in call.reported:
                # Kept, so that a second try after a full disk stores this rise and makes no new one.
                call.reported[claims.slot] = self.risk.report(reported, unix)
            changed = call.reported[claims.slot]
        await self._store.add_report(Report(receipt, reported, request.reason, int(unix)), changed)
        return ReportReply(receipt)

    async def ended(self, request: EndedRequest, asker: Asker) -> OkReply:
        """Take note that a call is over; its seconds count once per call."""
        unix = self._unix()
        claims = self._tokens.read_call(asker.bearer, unix, self._settings.call.report_grace_s)
        self._limit_call(claims)
        call = self.calls.get(claims.call_id)
        # After a restart the hub knows no calls: then slot a alone speaks for both.
        counts = not call.ended if call is not None else claims.slot == "a"
        if call is not None:
            call.ended.add(claims.slot)
            self._revoke(call, claims.slot)
        if counts:
            seconds = min(request.seconds, int(self._settings.call.max_call_s))
            await self._store.add_call(seconds, unix)
        return OkReply()

    async def run(self) -> None:
        """Do what time asks for: expire, purge, revoke. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep_forever())
            group.create_task(self._purge_forever())
            group.create_task(self._revoke_forever())

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self.matcher.expire(self._monotonic())
            self.calls.expire(self._unix())

    async def _purge_forever(self) -> None:
        while True:
            now = self._unix()
            try:
                await self._store.purge(
                    now, self._settings.call.report_days, self.risk.forget_negligible(now)
                )
            except StoreError as error:
                logger.error("old reports could not be purged: %s", error)
            await asyncio.sleep(PURGE_INTERVAL_S)

    async def _revoke_forever(self) -> None:
        while True:
            await self._turn.revoke(await self._revocations.get())

    async def _matched(self, found: Matched, unix: float) -> MatchedReply:
        match, slot = found.match, found.slot
        call = self.calls.open(match, unix)
        if slot in call.ended:
            raise _call_over()
        grant = call.grants.get(slot)
        if grant is None:
            grant = await self._turn.issue(match.call_id, slot, unix, call.until + TURN_SLACK_S)
            call.grants[slot] = grant
        return MatchedReply(
            call_id=match.call_id,
            slot=slot,
            offerer=match.offerer,
            peer_role=found.peer_role,
            token=self._tokens.make_call(match.call_id, slot, call.until, unix),
            token_ttl_s=self._tokens.call_ttl_s,
            ice_servers=grant.ice_servers,
            ttl_s=_ttl(grant, unix),
            max_call_s=self._settings.call.max_call_s,
        )

    def _device(self, asker: Asker, unix: float, now: float) -> str:
        if not asker.bearer:
            raise bad_token("a device token is needed in the Authorization header")
        device = self._tokens.read_device(asker.bearer, unix)
        _pass(self._by_device.take(device, now))
        return device

    def _limit_call(self, claims: CallClaims) -> None:
        _pass(self._by_device.take(f"{claims.call_id} {claims.slot}", self._monotonic()))

    async def _wake(self, asking: str) -> None:
        for ticket in self.matcher.take_wakes():
            if ticket != asking:
                await self._push(f"wait:{ticket}", "matched", {})

    def _revoke(self, call: Call, slot: Slot) -> None:
        grant = call.grants.pop(slot, None)
        if grant is not None and not self._revocations.full():
            self._revocations.put_nowait(grant)


def _pass(wait_s: float) -> None:
    if wait_s > 0:
        raise too_fast(round(wait_s + 0.05, 1))


def _other(slot: Slot) -> Slot:
    return "b" if slot == "a" else "a"


def _ttl(grant: Grant, now: float) -> float:
    return max(0.0, float(int(grant.expires_at - now)))


def _call_over() -> RefusedError:
    return RefusedError(410, "call_over", "this call is over")
