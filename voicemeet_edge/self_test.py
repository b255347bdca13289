"""The device's own test: at the start, daily, and when asked; a call with itself and what came of it.

One rule: nobody is disturbed. It runs while the device is idle, makes no sound, opens no microphone, and ends
in the moment somebody presses call.
"""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, field
from datetime import datetime, timedelta

from voicemeet_edge.choices import IcePolicy, RelayProtocol
from voicemeet_edge.echo_call import EchoCall, Pair, call_oneself, paired, try_rung
from voicemeet_edge.errors import VoiceMeetError
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.records import dataclass
from voicemeet_edge.settings import Settings
from voicemeet_edge.system.findings import Finding, Outcome, worst
from voicemeet_edge.timeouts import timeout

logger = logging.getLogger(__name__)

LIMIT_S = 75.0  # s for all of it
FIRST_AFTER_S = 20.0  # s after the start: a box that was just switched on is pressed first
SPREAD_S = 600.0  # s over which the boxes of a building spread their daily test
FAILED_AGAIN_S = (
    900.0  # s after which a test that failed is repeated, so that the lamp goes off when it is mended
)
LOOK_AGAIN_S = 3600.0  # s; the clock may be set meanwhile
BUSY_AGAIN_S = 120.0  # s
FAINT, BAD = 0.6, 0.4  # likeness below which the line is doubtful, and useless
LOSSY, SLOW_MS = 0.1, 600.0  # share lost, and delay both ways, above which it is doubtful

WELL, DOUBT, FAULT, SKIPPED = Outcome.WELL, Outcome.DOUBT, Outcome.FAULT, Outcome.SKIPPED


@dataclass(frozen=True, slots=True)
class SelfTestResult:
    """What a test found."""

    findings: tuple[Finding, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    at_s: float = 0.0
    """When it ended, monotonic."""

    @property
    def outcome(self) -> Outcome:
        """The whole in one word."""
        return worst(self.findings)

    def as_json(self) -> dict[str, object]:
        """For programs."""
        return {
            "outcome": self.outcome.value,
            "findings": [asdict(finding) for finding in self.findings],
            "figures": dict(self.figures),
        }


async def test_line(settings: Settings) -> tuple[list[Finding], dict[str, float]]:
    """Try each way to the relay and call oneself; returns the rows and the figures."""
    findings: list[Finding] = []
    figures: dict[str, float] = {}
    try:
        async with timeout(LIMIT_S), paired(settings) as pair:
            if not pair.has_relay and settings.ice_policy_for_pool is IcePolicy.RELAY:
                reason = NotConnected.NO_RELAY
                return [Finding("relay", FAULT, reason.said, reason.cure)], figures
            findings += await _rungs(settings, pair)
            call = await call_oneself(settings, pair)
    except TimeoutError:
        advice = "does the hub's log say why? does signaling (the WebSocket) stay open?"
        return [*findings, Finding("call", FAULT, "two parties of this device did not meet", advice)], figures
    except VoiceMeetError as error:
        return [*findings, _no_call(error)], figures
    figures |= {
        "set_up_seconds": call.set_up_s,
        "likeness": call.likeness.score,
        "delay_seconds": call.likeness.delay_ms / 1000,
        "loss_ratio": call.loss,
    }
    return [*findings, _judge(call)], figures


def _no_call(error: VoiceMeetError) -> Finding:
    if error.code in ("unknown_pool", "pass_needed", "pass_refused"):
        return Finding("call", SKIPPED, f"this hub lets no device call itself ({error.code})")
    advice = "where no relay is reached: is the hub's UDP port 3478 open from here?"
    return Finding("call", FAULT, f"{error} ({error.code})", advice)


async def _rungs(settings: Settings, pair: Pair) -> list[Finding]:
    if not pair.has_relay:
        return [Finding("relay", SKIPPED, "this hub gives none: calls go directly or not at all")]
    good: list[str] = []
    bad: list[str] = []
    for rung in settings.ice.turn_order:
        try:
            good.append(f"{rung.value} {await try_rung(pair, rung):.0f} ms")
        except (VoiceMeetError, OSError) as error:
            bad.append(f"{rung.value} ({getattr(error, 'code', type(error).__name__)})")
    if not good:
        advice = "open UDP and TCP port 3478 from here to the hub, and the ports of its relay"
        return [Finding("relay", FAULT, f"no packet came through: {', '.join(bad)}", advice)]
    found = f"a packet came through by {', '.join(good)}"
    if not bad:
        return [Finding("relay", WELL, found)]
    if RelayProtocol.UDP.value in good[0]:
        return [Finding("relay", WELL, f"{found}; not by {', '.join(bad)}")]
    return [Finding("relay", DOUBT, f"{found}; not by {', '.join(bad)}", "open UDP port 3478: voice is late")]


def _judge(call: EchoCall) -> Finding:
    way = "through the relay" if call.relayed else "directly"
    found = (
        f"with itself {way}: likeness {call.likeness.score:.2f} of 1, {100 * call.loss:.1f} % lost, "
        f"{call.likeness.delay_ms:.0f} ms both ways, set up in {call.set_up_s:.2f} s"
    )
    if not call.words_agree:
        return Finding("call", FAULT, "the check words of both ends differ", "somebody may sit in between")
    if call.likeness.score < BAD:
        return Finding("call", FAULT, found, "is the line overloaded? `status --watch` in a call shows it")
    if call.likeness.score < FAINT or call.loss > LOSSY or call.likeness.delay_ms > SLOW_MS:
        return Finding("call", DOUBT, found, "is the line overloaded, or the Wi-Fi weak?")
    return Finding("call", WELL, found)


class InUseError(VoiceMeetError):
    """The device is in use: no test now."""

    code = "busy"


class SelfTest:
    """Runs the test when it is due; see the module's docstring.

    Args:
        is_idle: whether nobody uses the device.
        own_faults: what the device itself knows to be broken, as findings.
        tell: told whether the last test found a fault, for the lamp.
    """

    def __init__(
        self,
        settings: Settings,
        *,
        is_idle: Callable[[], bool],
        own_faults: Callable[[], list[Finding]],
        tell: Callable[[bool], None],
    ) -> None:
        self._settings = settings
        self._is_idle = is_idle
        self._own_faults = own_faults
        self._tell = tell
        self._running: asyncio.Task[tuple[list[Finding], dict[str, float]]] | None = None
        self._interrupted = False
        self._turn = asyncio.Lock()
        self.last: SelfTestResult | None = None
        """What the last one found."""

    async def run(self) -> None:
        """Test when it is due, until cancelled; without a time of day never."""
        if not self._settings.status.self_test_at:
            return
        wait_s = FIRST_AFTER_S
        while True:
            await asyncio.sleep(wait_s)
            due_s = self._due_in_s() if self.last is not None else 0.0
            if due_s > 0:
                wait_s = min(due_s, LOOK_AGAIN_S)
                continue
            try:
                result = await self.test()
            except InUseError:
                wait_s = BUSY_AGAIN_S
                continue
            wait_s = FAILED_AGAIN_S if result.outcome is FAULT else min(self._due_in_s(), LOOK_AGAIN_S)

    def _due_in_s(self) -> float:
        """Return how long until the next one, 0 when it is due; only with a last one."""
        assert self.last is not None
        age_s = time.monotonic() - self.last.at_s
        if self.last.outcome is FAULT:
            return max(0.0, FAILED_AGAIN_S - age_s)
        return max(0.0, seconds_until(self._settings.status.self_test_at, age_s) + self._late_s)

    @property
    def _late_s(self) -> float:
        """How much later than the others of the building this box tests, the same all day."""
        assert self.last is not None
        return random.Random(self.last.at_s).uniform(0.0, SPREAD_S)

    async def test(self) -> SelfTestResult:
        """Test now; returns what was found.

        Raises:
            InUseError: the device is in use, or came to be meanwhile.
        """
        async with self._turn:
            if not self._is_idle():
                raise InUseError("the device is in use")
            self._running = asyncio.create_task(test_line(self._settings))
            try:
                findings, figures = await self._running
            except asyncio.CancelledError:
                self._running.cancel()
                task = asyncio.current_task()
                if not self._interrupted or (task is not None and task.cancelling()):
                    raise  # it is we who are cancelled
                raise InUseError("somebody used the device") from None
            finally:
                self._running, self._interrupted = None, False
            self.last = SelfTestResult((*self._own_faults(), *findings), figures, time.monotonic())
        outcome = self.last.outcome
        (logger.warning if outcome is FAULT else logger.info)("self-test: %s", outcome.value)
        for finding in self.last.findings:
            logger.info("self-test: %s: %s: %s", finding.check, finding.outcome.value, finding.found)
        self._tell(any(finding.outcome is FAULT for finding in findings))
        return self.last

    def interrupt(self) -> None:
        """Somebody uses the device: end a test that runs."""
        if self._running is not None:
            self._interrupted = True
            self._running.cancel()

    def snapshot(self) -> Mapping[str, object] | None:
        """The last one, for status and metrics."""
        last = self.last
        if last is None:
            return None
        return {
            "outcome": "failed" if last.outcome is FAULT else "passed",
            "age_s": time.monotonic() - last.at_s,
            "found": {finding.check: finding.found for finding in last.findings},
            "figures": dict(last.figures),
        }


def seconds_until(time_of_day: str, age_s: float, now: datetime | None = None) -> float:
    """Return how long until this time of day comes after a test of that age; 0 or less when it has come."""
    now = now or datetime.now().astimezone()
    hour, minute = (int(part) for part in time_of_day.split(":"))
    tested = now - timedelta(seconds=age_s)
    due = tested.replace(hour=hour, minute=minute, second=0, microsecond=0)
    if due <= tested:
        due += timedelta(days=1)
    return (due - now).total_seconds()
