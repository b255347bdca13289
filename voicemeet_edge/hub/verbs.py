"""The verbs, apart from HTTP; the one rule: a refused request has changed nothing.

Joins the pure parts (admission, shares, matching, risk, calls) with tokens, store and TURN. Nothing here
logs who asked.
"""

from __future__ import annotations

import asyncio
import logging
import secrets as random_secrets
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial

from voicemeet_edge.backend.verbs import (
    Desks,
    DoorsReply,
    DoorsRequest,
    EndedRequest,
    LeaveRequest,
    ListedDoor,
    MatchedReply,
    MatchReply,
    MatchRequest,
    OkReply,
    RenewReply,
    ReportReply,
    ReportRequest,
    RingingReply,
    Role,
    SessionReply,
    SessionRequest,
    Slot,
    Verb,
    WaitingReply,
)
from voicemeet_edge.errors import BackendError, MessageError
from voicemeet_edge.hub.admission import Admission
from voicemeet_edge.hub.calls import Call, Calls
from voicemeet_edge.hub.clock import SteadyClock
from voicemeet_edge.hub.complaints import Complaints
from voicemeet_edge.hub.limits import address_key
from voicemeet_edge.hub.matching import CallPlace, Matcher, MatchOptions, Seeker
from voicemeet_edge.hub.pass_reading import PassReading
from voicemeet_edge.hub.passes import PassBook
from voicemeet_edge.hub.refusal import RefusedError, bad_token
from voicemeet_edge.hub.ringing import Ringing
from voicemeet_edge.hub.risk import RiskBook, RiskOptions, Score, Standing
from voicemeet_edge.hub.settings import HubSettings
from voicemeet_edge.hub.shares import Shares
from voicemeet_edge.hub.store import Store, StoreError
from voicemeet_edge.hub.tokens import CallClaims, DeviceClaims, Tokens
from voicemeet_edge.hub.turn.provider import Grant, TurnProvider
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret

logger = logging.getLogger(__name__)

MATCH_TTL_S = 120.0  # s that the TURN credentials of a match are good: to ring, answer and find a path
TURN_SLACK_S = 300.0  # s that renewed TURN credentials outlive the longest call: for clocks and goodbyes
OLD_TOKEN_GRACE_S = 7 * 86_400.0  # s after its expiry in which a device token still hands its score on
SWEEP_INTERVAL_S = 5.0  # s between looks for waiters and calls whose time is over
PURGE_INTERVAL_S = 3_600.0  # s between purges of the store
MAX_REVOCATIONS = 1_000  # credentials waiting to be revoked; revoking is best effort
CALL_ID_BYTES = 16  # bytes: 128 random bits, the topic's own second lock

Push = Callable[[str, str, dict[str, object]], Awaitable[object]]


@dataclass(frozen=True, slots=True)
class Requester:
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
        book: PassBook | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        unix: Callable[[], float] | None = None,
        wall: Callable[[], float] = time.time,
    ) -> None:
        """`push(topic, event, payload)` is the hub's own private broadcast.

        `unix` dates tokens and calls and must not step; `wall` dates what people read and what coturn,
        which has only the wall clock, compares.
        """
        self._settings = settings
        self._tokens = tokens
        self._store = store
        self._turn = turn
        self._push = push
        self._monotonic = monotonic
        self._unix = unix or SteadyClock()
        self._wall = wall
        match, risk = settings.match, settings.risk
        self.admission = Admission(match.pools, match.open_pools, book or PassBook())
        self.pass_reading = PassReading(store, self.admission)
        self.matcher = Matcher(
            MatchOptions(
                poll_after_s=match.poll_after_s,
                waiter_timeout_s=match.waiter_timeout_s,
                avoid_repeat_s=match.avoid_repeat_s,
                repeat_after_s=match.repeat_after_s,
                max_waiting=match.max_waiting,
                max_waiting_per_address=settings.limits.address_calls,
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
        self._complaints = Complaints(self.calls, self.risk, store, tokens, self.admission, wall)
        self.shares = Shares(settings.limits)
        """What each asker has left; the operator's page counts wrong passes there too."""
        self.answers: Counter[tuple[str, int]] = Counter()
        """How many requests were answered how: by verb ("other" for none of ours) and HTTP status."""
        self._revocations: asyncio.Queue[Grant] = asyncio.Queue(MAX_REVOCATIONS)

    def admit(self, apikey: str, verb: Verb, requester: Requester) -> None:
        """Check a request's apikey and count it where it belongs, before anything is read from it.

        Known tokens have shares of their own, taken when the verb is served. A `session` without an old
        token is counted there too: only its body says whether a pass stands behind it.
        """
        now, address = self._monotonic(), address_key(requester.address)
        if not self._tokens.is_apikey(apikey):
            self.shares.wrong_key(address, now)
            raise RefusedError(401, "bad_apikey", "the apikey header is missing or not ours")
        if not requester.bearer:
            if verb is not Verb.SESSION:
                self.shares.stranger(address, now)
        elif not self._tokens.is_ours(requester.bearer):
            self.shares.stranger(address, now)
        elif not self._tokens.is_enrolled(requester.bearer):
            count = self.shares.renewal if verb is Verb.SESSION else self.shares.known
            count(address, now)

    def is_enrolled(self, token: str) -> bool:
        """Say whether this is a token of ours that a pass stands behind."""
        return bool(token) and self._tokens.is_enrolled(token)

    async def handle(self, verb: Verb, body: object, requester: Requester) -> dict[str, object]:
        """Answer an admitted request; RefusedError says why not."""
        try:
            if verb is Verb.MATCH:
                return (await self.match(MatchRequest.parse(body), requester)).serialize()
            if verb is Verb.DOORS:
                return (await self.doors(DoorsRequest.parse(body), requester)).serialize()
            if verb is Verb.SESSION:
                return (await self.session(SessionRequest.parse(body), requester)).serialize()
            if verb is Verb.RENEW:
                return (await self.renew(requester)).serialize()
            if verb is Verb.LEAVE:
                return (await self.leave(LeaveRequest.parse(body), requester)).serialize()
            if verb is Verb.REPORT:
                return (await self.report(ReportRequest.parse(body), requester)).serialize()
            return (await self.ended(EndedRequest.parse(body), requester)).serialize()
        except MessageError as error:
            raise RefusedError(400, "bad_request", str(error)) from None
        except StoreError as error:
            logger.error("%s (%s)", error, error.code)
            raise RefusedError(503, error.code, str(error), retry_after_s=10.0) from None
        except BackendError as error:
            raise RefusedError(
                503, error.code, str(error), retry_after_s=error.retry_after_s or 2.0
            ) from None

    async def session(self, request: SessionRequest, requester: Requester) -> SessionReply:
        """Give a device token, enrolled with the pass that is shown; the old one hands its risk score on."""
        now, address = self._unix(), address_key(requester.address)
        shown = None
        try:
            shown = await self.pass_reading.heeding(partial(self.admission.enrol, request.shown_pass))
        finally:
            # Whoever shows no good pass is a stranger, and guessing is counted too.
            if shown is None and not requester.bearer:
                self.shares.stranger(address, self._monotonic())
        old = self._tokens.read_device(requester.bearer, now, OLD_TOKEN_GRACE_S) if requester.bearer else None
        pass_id = shown.id if shown is not None else ""
        self.shares.session(address, pass_id, self._monotonic())
        token, device = self._tokens.make_device(now, pass_id)
        if old is not None:
            changed = self.risk.rotate(old.device, device, now)
            if changed:
                await self._store.save_scores(changed)
        return SessionReply(token, self._tokens.device_ttl_s)

    async def match(self, request: MatchRequest, requester: Requester) -> MatchReply | RingingReply:
        """Find a partner for a ticket, or say how its search stands."""
        unix, now = self._unix(), self._monotonic()
        claims = self._device(requester, unix, now)
        check = partial(self.admission.check, request, claims.pass_id, Secret(requester.bearer))
        await self.pass_reading.heeding(check)
        is_open = self.admission.is_open(request.pool)
        if is_open and (request.label or request.door):
            raise RefusedError(400, "bad_request", "doors are called in closed pools only")
        # Who has no pass for this pool draws from the share of its address.
        address = address_key(requester.address) if is_open else ""
        standing = Standing.CLEAN
        if is_open and request.role is Role.EITHER:
            standing = self.risk.standing(claims.device, unix)
        if standing is Standing.REFUSED:
            self.matcher.leave(claims.device, request.ticket, now)
            await self._wake(request.ticket)
            raise RefusedError(403, "refused_risk", "reported too often; this wears off with time")
        is_new = self.matcher.is_new(request.ticket)
        full = self._full(address) if address and (is_new or request.ring) else None
        if full is not None and is_new:
            raise self.matcher.too_many(*full, now)
        separated = standing is Standing.FLAGGED
        seeker = Seeker(
            claims.device,
            request.ticket,
            request.pool,
            request.role,
            separated,
            address,
            "" if is_open else claims.pass_id,
            ring=request.ring,
            again=request.again,
            is_full=full is not None,
            state=request.state,
            label=request.label,
            door=request.door,
        )
        found = self.matcher.ring(seeker, now) if request.ring else self.matcher.request(seeker, now)
        await self._wake(request.ticket)
        if isinstance(found, CallPlace):
            return await self._matched(found, address, claims.pass_id, unix)
        wait_token = self._tokens.make_wait(request.ticket, unix, claims.pass_id)
        if isinstance(found, Ringing):
            calls = await self._ringing(found, address, claims.pass_id, unix)
            place, desks = (None, None) if is_open else (found.place, Desks(found.busy, found.away))
            return RingingReply(found.poll_after_s, wait_token, calls, place, desks)
        if is_open or request.role is not Role.ANSWERER:
            return WaitingReply(found.poll_after_s, wait_token, separated)
        return WaitingReply(
            found.poll_after_s, wait_token, separated, callers=found.callers, doors=found.doors
        )

    async def doors(self, request: DoorsRequest, requester: Requester) -> DoorsReply:
        """List the doors of a closed pool for one of its answerers."""
        claims = self._device(requester, self._unix(), self._monotonic())
        check = partial(self.admission.check_pass, request.pool, Role.ANSWERER, claims.pass_id)
        await self.pass_reading.heeding(check)
        count, listed = self.matcher.doors(request.pool)
        return DoorsReply(count, tuple(ListedDoor(door, label) for door, label in listed))

    async def renew(self, requester: Requester) -> RenewReply:
        """Give a fresh call JWT and fresh TURN credentials while the call lasts."""
        unix = self._unix()
        claims = self._tokens.read_call(requester.bearer, unix)
        self._limit_call(claims)
        call = self.calls.get(claims.call_id)
        if unix >= claims.until or (call is not None and call.side(claims.slot).ended):
            raise _call_over()
        # After a restart the hub knows no calls, and believes that both are there.
        stands = call is None or all(side.spoke for side in call.sides.values())
        grant = await self._issue(claims.call_id, claims.slot, claims.until if stands else 0.0, unix)
        if call is not None:
            call.side(claims.slot).grant = grant
        token = self._tokens.make_call(claims.call_id, claims.slot, claims.until, unix, claims.pass_id)
        return RenewReply(token, self._tokens.call_ttl_s, grant.ice_servers, self._ttl(grant))

    async def leave(self, request: LeaveRequest, requester: Requester) -> OkReply:
        """Forget a ticket."""
        now = self._monotonic()
        claims = self._device(requester, self._unix(), now)
        self.matcher.leave(claims.device, request.ticket, now)
        await self._wake(request.ticket)
        return OkReply()

    async def report(self, request: ReportRequest, requester: Requester) -> ReportReply:
        """File a report about the other party; the same call and slot gives the same receipt again."""
        unix = self._unix()
        # A device may have been offline: its last JWT is good for a report for a while after expiry.
        claims = self._tokens.read_call(requester.bearer, unix, self._settings.call.report_grace_s)
        call = self.calls.get(claims.call_id)
        if call is None or call.side(claims.slot).reported is None:
            reporter = call.side(claims.slot).device if call is not None else _of_slot(claims)
            self.shares.report(reporter, self._monotonic())
        return ReportReply(
            await self._complaints.file(claims, call, request.reason, address_key(requester.address), unix)
        )

    async def ended(self, request: EndedRequest, requester: Requester) -> OkReply:
        """Take note that a call is over; its seconds count once per call."""
        unix = self._unix()
        claims = self._tokens.read_call(requester.bearer, unix, self._settings.call.report_grace_s)
        self._limit_call(claims)
        call = self.calls.get(claims.call_id)
        if call is None:
            # After a restart the hub knows no calls: then slot a alone speaks for both.
            counts, longest = claims.slot == "a", self._settings.call.max_call_s
        else:
            counts = not any(side.ended for side in call.sides.values())
            longest = min(unix - call.opened_at, self._settings.call.max_call_s)
            side = call.side(claims.slot)
            if not side.ended:
                side.ended, side.ended_at = True, unix
            self._revoke(call, claims.slot)
        if counts:
            await self._store.add_call(min(request.seconds, int(longest)), self._wall())
        return OkReply()

    async def run(self) -> None:
        """Do what time asks for: expire, purge, revoke, read passes anew. Runs until cancelled."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._sweep_forever())
            group.create_task(self._purge_forever())
            group.create_task(self._revoke_forever())
            group.create_task(self.pass_reading.run())

    async def _sweep_forever(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now = self._unix()
            self.matcher.expire(self._monotonic())
            for side in self.calls.silent(now):
                self.matcher.put_last(side.device, side.address, self._monotonic())
            for call, slot in self.calls.over(now):
                self._revoke(call, slot)
            try:
                await self._complaints.count_ripe(now)
            except StoreError as error:
                logger.error("scores could not be stored: %s", error)
            self.calls.expire(now)
            await self._note_key_use()

    async def _note_key_use(self) -> None:
        news = self.admission.take_key_news()
        if news:
            try:
                await self._store.note_key_use(news)
            except StoreError as error:
                logger.error("who uses which intercom key could not be stored: %s", error)

    async def _purge_forever(self) -> None:
        while True:
            now = self._unix()
            try:
                negligible = self.risk.forget_negligible(now)
                await self._store.purge(self._wall(), self._settings.call.report_days, negligible)
                await self._store.remember_time(now)
            except StoreError as error:
                logger.error("old reports could not be purged: %s", error)
            await asyncio.sleep(PURGE_INTERVAL_S)

    async def _revoke_forever(self) -> None:
        while True:
            await self._turn.revoke(await self._revocations.get())

    async def _ringing(
        self, found: Ringing, address: str, pass_id: str, unix: float
    ) -> tuple[MatchedReply, ...]:
        """Give a caller its side of all its calls but those that it has ended."""
        calls = [self.calls.open(leg.match, unix).side(leg.slot).ended for leg in found.calls]
        living = [leg for leg, is_over in zip(found.calls, calls, strict=True) if not is_over]
        replies = [self._matched(leg, address, pass_id, unix) for leg in living]
        return tuple(await asyncio.gather(*replies))

    async def _matched(self, found: CallPlace, address: str, pass_id: str, unix: float) -> MatchedReply:
        match, slot = found.match, found.slot
        call = self.calls.open(match, unix)
        side = call.side(slot)
        if side.ended:
            raise _call_over()
        self.calls.collect(call, slot, address)
        if side.grant is None or side.grant.expires_at <= self._wall():
            side.grant = await self._issue(match.call_id, slot, 0.0, unix)
        return MatchedReply(
            call_id=match.call_id,
            slot=slot,
            offerer=match.offerer,
            peer_role=found.peer_role,
            token=self._tokens.make_call(match.call_id, slot, call.until, unix, pass_id),
            token_ttl_s=self._tokens.call_ttl_s,
            ice_servers=side.grant.ice_servers,
            ttl_s=self._ttl(side.grant),
            max_call_s=self._settings.call.max_call_s,
        )

    async def _issue(self, call_id: str, slot: Slot, until: float, unix: float) -> Grant:
        """Make TURN credentials: short ones for a call that may never be, long ones for one that stands."""
        wall = self._wall()
        if until:
            life_s = until - unix + TURN_SLACK_S
        elif self._turn.outlives_credentials:
            life_s = MATCH_TTL_S
        else:
            life_s = self._settings.call.max_call_s + TURN_SLACK_S
        return await self._turn.issue(call_id, slot, wall, wall + life_s)

    def _device(self, requester: Requester, unix: float, now: float) -> DeviceClaims:
        if not requester.bearer:
            raise bad_token("a device token is needed in the Authorization header")
        claims = self._tokens.read_device(requester.bearer, unix)
        self.shares.device(claims.device, now)
        return claims

    def _limit_call(self, claims: CallClaims) -> None:
        self.shares.device(_of_slot(claims), self._monotonic())

    def _full(self, address: str) -> tuple[str, str] | None:
        """Say who has all the calls that strangers may have, "" for all of them, and a sentence; or None."""
        now, turn = self._unix(), self._settings.turn
        if self.calls.is_full(address, self._settings.limits.address_calls, now):
            return address, "too many calls from this address at once"
        # Half of the relay is for closed pools, however many strangers there are.
        most = turn.total_quota // (2 * max(1, turn.user_quota))
        if turn.provider == "coturn" and self.calls.are_strangers_many(most, now):
            return "", "too many calls in open pools at once"
        return None

    async def _wake(self, asking: str) -> None:
        for ticket in self.matcher.take_wakes():
            if ticket != asking:
                await self._push(f"wait:{ticket}", "matched", {})

    def _revoke(self, call: Call, slot: Slot) -> None:
        side = call.side(slot)
        grant, side.grant = side.grant, None
        if grant is not None and not self._revocations.full():
            self._revocations.put_nowait(grant)

    def _ttl(self, grant: Grant) -> float:
        return max(0.0, float(int(grant.expires_at - self._wall())))


def _of_slot(claims: CallClaims) -> str:
    return f"{claims.call_id} {claims.slot}"


def _call_over() -> RefusedError:
    return RefusedError(410, "call_over", "this call is over")
