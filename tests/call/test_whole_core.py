"""The whole pure core of a device, walked at random: machine, faults, and the conversation of each call.

What must hold whatever comes in whatever order: nobody waits without a deadline, no microphone is live
outside a call, a call says goodbye at most once and is then silent, and left alone everything comes home.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from hypothesis import given, settings
from hypothesis import strategies as st

from tests.call.ends import CERTIFICATE, MATCHED, fresh
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call import actions as calls
from voicemeet_edge.call.commands import (
    Command,
    DropConnection,
    Leave,
    Publish,
    Renew,
    Tell,
    UseConnection,
)
from voicemeet_edge.call.conversation import Conversation
from voicemeet_edge.call.faults import Faults
from voicemeet_edge.call.machine import CallMachine, Event, State
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.errors import IllegalEventError
from voicemeet_edge.reasons import EndReason
from voicemeet_edge.settings import CallSettings
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.messages import Slot
from voicemeet_edge.signaling.sealed import NoSeal
from voicemeet_edge.webrtc.options import Fingerprints

KIND = {Role.EITHER: Kind.MEET, Role.CALLER: Kind.CALLING, Role.ANSWERER: Kind.CALLED}
IMPOSTOR = b"i" * 32
NONCE, COMMITMENT = "00" * 32, "11" * 32


@dataclass
class InCall:
    """A conversation, and the adapters' side of it."""

    core: Conversation
    left: Leave | None = None
    used: int | None = None
    renewing: bool = False


class Box:
    """A device without adapters: cores, a microphone, and somebody who does what they ask."""

    def __init__(self, role: Role, slot: Slot, offerer: Slot) -> None:
        self.role, self.slot, self.offerer = role, slot, offerer
        self.machine = CallMachine(CallSettings(role=role, max_call_s=900.0))
        self.faults = Faults()
        self.now = 1000.0
        self.searching = False
        self.microphone = False
        self.call: InCall | None = None
        self.ended_calls = 0
        self._seq = 0
        self.act(self.machine.start(self.now))

    # -- carrying out ------------------------------------------------------------------------

    def act(self, actions: Iterable[calls.Action]) -> None:
        for action in actions:
            match action:
                case calls.Seek() | calls.StandBy():
                    assert not self.searching, "two searches at once"
                    assert self.call is None or self.call.left is not None, "two calls at once"
                    self.searching, self.call = True, None  # one that is slow to go has a successor
                case calls.Accept():
                    if self.call is not None:
                        self.do(self.call.core.accept(self.now))
                case calls.Hangup():
                    self.searching = False
                    if self.call is not None:
                        self.do(self.call.core.end(action.reason, self.now))
                case calls.StartAudio() | calls.StopAudio():
                    self.microphone = isinstance(action, calls.StartAudio)
                    self.act(self.machine.capture_changed(self.microphone))
                case _:
                    pass

    def tell(self, tells: Iterable[Tell]) -> None:
        for tell in tells:
            self.event(tell.event, tell.reason)
        self.act(self.machine.fault_changed(self.faults.current))

    def event(self, event: Event, reason: EndReason = EndReason.FAILED) -> None:
        try:
            actions = self.machine.handle(event, self.now, reason)
        except IllegalEventError:
            return
        self.act(actions)
        self.faults.state_changed(self.machine.state)

    def do(self, commands: Sequence[Command]) -> None:
        call = self.call
        assert call is not None
        for command in commands:
            if isinstance(command, Tell):
                self.event(command.event, command.reason)
                continue
            assert call.left is None, f"{command} after the end"
            match command:
                case Publish():
                    assert command.event != "bye", "a goodbye that is not the last word"
                case Leave():
                    call.left = command
                case UseConnection(attempt):
                    call.used = attempt
                case DropConnection(attempt):
                    assert attempt != call.used
                case Renew():
                    assert not call.renewing, "asked twice at once"
                    call.renewing = True
                case _:
                    pass

    # -- what can happen ---------------------------------------------------------------------

    def match(self) -> None:
        if self.searching and self.call is None:
            self.searching = False
            matched = replace(MATCHED, slot=self.slot, offerer=self.offerer)
            core = Conversation(matched, KIND[self.role], NoSeal(), CERTIFICATE[self.slot].hex())
            self.call = InCall(core)
            self.machine.set_call_limit(600.0)
            self.do(core.start(self.now))

    def freed(self) -> None:
        """The adapters have closed everything of the call, or of a cancelled search."""
        if self.call is not None and self.call.left is not None:
            self.call = None
            self.ended_calls += 1
            self.tell(self.faults.call_over(self.now))
        elif self.call is None and not self.searching and self.machine.state is State.ENDED:
            self.tell(self.faults.call_over(self.now))

    def refuse_search(self) -> None:
        if self.searching and self.call is None:
            self.searching = False
            self.tell(self.faults.search_refused("unknown_pool", self.now))
            self.tell(self.faults.call_over(self.now))

    def say(self, event: str, number: int) -> None:
        """The other side says something, well-formed or not quite, in turn or not."""
        if self.call is None:
            return
        self._seq += 1
        slot = ("b" if self.slot == "a" else "a") if number % 7 else self.slot
        seq = self._seq if number % 5 else max(1, self._seq - 1)
        fields: dict[str, dict[str, object]] = {
            "hello": {"reply": bool(number % 2), "commitment": COMMITMENT} if number % 3 else {},
            "reveal": {"nonce": NONCE},
            "offer": {"sdp": f"offer {number % 2}", "attempt": number % 3},
            "answer": {"sdp": "answer", "attempt": number % 3},
            "candidate": {"candidate": None, "mid": "0", "attempt": number % 2},
            "restart": {"attempt": 1 + number % 3},
            "ring": {},
            "accept": {},
            "bye": {"reason": ["hung_up", "declined", "wrong_key", "nonsense"][number % 4]},
        }
        payload: dict[str, object] = {"v": 1, "slot": slot, "seq": seq, **fields[event]}
        if event == "hello" and slot == "b" and number % 3:
            payload["nonce"] = NONCE
        self.do(self.call.core.receive(event, payload, self.now))

    def connection(self, what: str, number: int) -> None:
        if self.call is None:
            return
        core, attempt = self.call.core, number % 3
        theirs = CERTIFICATE["b" if self.slot == "a" else "a"] if number % 4 else IMPOSTOR
        match what:
            case "connected":
                was, used = self.call.used, Fingerprints(CERTIFICATE[self.slot], theirs)
                self.do(core.connected(attempt, used, self.now))
                self._pin(theirs, changed=self.call.used != was)
            case "described":
                self.do(core.described(attempt, f"description {attempt}", self.now))
            case "refused":
                refused = core.refused_description(attempt, EndReason.NO_OPUS, self.now, by_peer=True)
                self.do(refused)
            case "failed":
                self.do(core.connection_failed(attempt, EndReason.ICE_FAILED, self.now))
            case "closed":
                self.do(core.connection_closed(attempt, self.now))
            case _:
                self.do(core.traffic(self.now, self.now, self.now))

    def _pin(self, theirs: bytes, *, changed: bool) -> None:
        assert self.call is not None
        if changed:
            pinned = self.__dict__.setdefault("pinned", {}).setdefault(id(self.call), theirs)
            assert pinned == theirs, "a connection of another certificate is used"

    def renewal(self, number: int) -> None:
        if self.call is None or not self.call.renewing:
            return
        self.call.renewing = False
        if number % 2:
            self.do(self.call.core.renewed(fresh(number), self.now))
        else:
            self.call.core.renewal_failed(self.now, is_retryable=bool(number % 3))

    def sound(self, what: str, number: int) -> None:
        is_microphone = bool(number % 2)
        if what == "sound_recovered":
            self.faults.sound_recovered(is_microphone=is_microphone)
            self.tell(())
        else:
            self.tell(
                self.faults.sound_failed(
                    "sound_device_lost",
                    self.now,
                    is_microphone=is_microphone,
                    is_retryable=bool(number % 5),
                )
            )

    # -- time --------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        core = self.call.core if self.call is not None else None
        deadlines = [self.machine.deadline, self.faults.deadline, core.deadline if core is not None else None]
        return min((one for one in deadlines if one is not None), default=None)

    def wait(self, seconds: float) -> None:
        """Let time pass, with all that is due on the way."""
        end = self.now + seconds
        for _ in range(20_000):
            deadline = self.deadline
            if deadline is None or deadline > end:
                self.now = end
                return
            self.now = max(self.now, deadline)
            self.act(self.machine.handle_timer(self.now))
            self.faults.state_changed(self.machine.state)
            self.tell(self.faults.handle_timer(self.now))
            if self.call is not None:
                self.do(self.call.core.handle_timer(self.now))
        raise AssertionError("timers that never end")

    def check(self) -> None:
        state = self.machine.state
        assert self.microphone == (state is State.TALKING), "a microphone is live outside a call"
        if state is not State.IDLE:
            assert self.machine.deadline is not None, "every state but idle ends by itself"
        if self.call is not None and self.call.left is None:
            assert self.deadline is not None, "a call waits for nothing"
            if state is State.IDLE:  # nobody here knows of it, so no timer of the machine ends it
                assert self.call.core.deadline is not None


SAID = ["hello", "reveal", "offer", "answer", "candidate", "restart", "ring", "accept", "bye"]
CONNECTION = ["connected", "described", "refused", "failed", "closed", "traffic"]
PRESSED = {"press": Event.CALL_PRESSED, "hold": Event.CALL_HELD, "report": Event.REPORT_PRESSED}
CHANNEL = {
    "joined": ChannelState.JOINED,
    "unjoined": ChannelState.WAITING,
    "token_wanted": ChannelState.TOKEN_WANTED,
    "channel_refused": ChannelState.REFUSED,
}
# What makes a call go on stands more often than what ends it, or no walk would get far.
WHAT = [*SAID, *CONNECTION, *PRESSED, *CHANNEL, "sound_failed", "sound_recovered", "refuse_search", "freed"]
WHAT += ["match", "press", "joined", "hello", "connected", "traffic", "described", "renewal", "wait"] * 3

STEPS = st.lists(
    st.tuples(st.sampled_from(WHAT), st.integers(0, 59), st.floats(0.0, 30.0)), min_size=5, max_size=80
)


def step(box: Box, what: str, number: int, seconds: float) -> None:
    if what in SAID:
        box.say(what, number)
    elif what in CONNECTION:
        box.connection(what, number)
    elif what in PRESSED:
        box.event(PRESSED[what])
    elif what in CHANNEL:
        if box.call is not None:
            box.do(box.call.core.channel_changed(CHANNEL[what], box.now))
    elif what.startswith("sound"):
        box.sound(what, number)
    elif what == "renewal":
        box.renewal(number)
    elif what == "wait":
        box.wait(seconds)
    else:
        {"match": box.match, "freed": box.freed, "refuse_search": box.refuse_search}[what]()


@settings(max_examples=300, deadline=None)
@given(
    STEPS,
    st.sampled_from(list(Role)),
    st.sampled_from(["a", "b"]),
    st.sampled_from(["a", "b"]),
)
def test_whatever_happens_a_device_keeps_its_promises_and_comes_home(
    steps: list[tuple[str, int, float]], role: Role, slot: Slot, offerer: Slot
) -> None:
    box = Box(role, slot, offerer)
    for what, number, seconds in steps:
        box.now += 0.2  # a person is no faster
        step(box, what, number, seconds)
        box.check()
    for _ in range(40):  # left alone, and with adapters that free what they are told to
        if box.machine.state is State.IDLE and box.call is None:
            break
        if box.searching and role is not Role.ANSWERER and box.machine.state is State.IDLE:
            break
        box.freed()
        box.wait(1000.0)
        box.renewal(1)
        box.check()
    assert box.machine.state is State.IDLE
    assert box.call is None or box.call.left is not None
    assert not box.microphone
