"""Two ends of a call in memory: conversations, a channel that can lose, connections that are names."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from voicemeet_edge.backend.verbs import MatchedReply, RenewReply, Role
from voicemeet_edge.call.commands import (
    Command,
    DropConnection,
    Leave,
    MakeAnswer,
    MakeOffer,
    Publish,
    TakeAnswer,
    Tell,
    UseConnection,
)
from voicemeet_edge.call.conversation import Conversation, Manner
from voicemeet_edge.call.machine import Event
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.secret import Secret
from voicemeet_edge.signaling.channel import ChannelState
from voicemeet_edge.signaling.messages import Slot
from voicemeet_edge.signaling.sealed import make_envelope
from voicemeet_edge.webrtc.options import Fingerprints

KEY, OTHER_KEY = bytes(range(32)), bytes(32)
CERTIFICATE = {"a": b"a" * 32, "b": b"b" * 32}
TOKEN_TTL_S = 600.0
MATCHED = MatchedReply(
    call_id="call-1",
    slot="a",
    offerer="a",
    peer_role=Role.EITHER,
    token=Secret("token 0"),
    token_ttl_s=TOKEN_TTL_S,
    ice_servers=(),
    ttl_s=600.0,
    max_call_s=3600.0,
)


def fresh(number: int) -> RenewReply:
    """What the backend gives for the n-th renewal."""
    return RenewReply(Secret(f"token {number}"), TOKEN_TTL_S, (), 600.0)


@dataclass(frozen=True)
class Wire:
    """A connection as both ends see it: who offered, in which attempt."""

    attempt: int
    offer: str
    answer: str = ""


class End:
    """One end: a conversation, what it said and told, and connections that are texts."""

    def __init__(
        self,
        slot: Slot = "a",
        kind: Kind = Kind.MEET,
        *,
        offerer: Slot = "a",
        keys: Sequence[bytes] = (),
        certificate: bytes | None = None,
        manner: Manner | None = None,
    ) -> None:
        self.slot = slot
        self.certificate = CERTIFICATE[slot] if certificate is None else certificate
        self.core = Conversation(
            replace(MATCHED, slot=slot, offerer=offerer),
            kind,
            make_envelope(keys, MATCHED.call_id, slot),
            self.certificate.hex(),
            manner or Manner(),
        )
        self.now = 1000.0
        self.said: list[Publish] = []
        self.told: list[Tell] = []
        self.seen: list[Command] = []
        self.left: Leave | None = None
        self.remote: dict[int, str] = {}
        """What each connection was told of the other end; the answerer's from the offer on."""

    def take(self, commands: Sequence[Command]) -> list[Command]:
        """Carry out what can be carried out at once, and keep all of it."""
        for command in commands:
            assert self.left is None, "something came after the end"
            self.seen.append(command)
            match command:
                case Publish():
                    self.said.append(command)
                case Tell():
                    self.told.append(command)
                case MakeOffer(attempt):
                    self.remote[attempt] = ""
                    self.take(self.core.described(attempt, f"offer {attempt}", self.now))
                case MakeAnswer(sdp, attempt):
                    self.remote[attempt] = sdp
                    self.take(self.core.described(attempt, f"answer {attempt}", self.now))
                case TakeAnswer(sdp, attempt):
                    self.remote[attempt] = sdp
                case DropConnection(attempt):
                    self.remote.pop(attempt, None)
                case Leave():
                    self.left = command
                case _:
                    pass
        return list(commands)

    def start(self, *, join: bool = True) -> None:
        """Begin, and join the channel unless told otherwise."""
        self.take(self.core.start(self.now))
        if join:
            self.join()

    def join(self, state: ChannelState = ChannelState.JOINED) -> list[Command]:
        """The channel is in this state now."""
        return self.take(self.core.channel_changed(state, self.now))

    def hear(self, message: Publish) -> list[Command]:
        """A broadcast arrives."""
        return self.take(self.core.receive(message.event, message.payload, self.now))

    def connect(self, attempt: int, other: bytes, certificate: bytes | None = None) -> list[Command]:
        """The connection of this attempt is up, with this certificate at the other end."""
        ours = self.certificate if certificate is None else certificate
        return self.take(self.core.connected(attempt, Fingerprints(ours, other), self.now))

    def until_deadline(self) -> list[Command]:
        """Let time pass to the next deadline, and what is due be done."""
        assert self.core.deadline is not None, "nothing will ever happen"
        self.now = max(self.now, self.core.deadline)
        return self.take(self.core.handle_timer(self.now))

    def until(self, time_s: float) -> list[Command]:
        """Let time pass to this moment, with everything that is due on the way."""
        commands: list[Command] = []
        while self.core.deadline is not None and self.core.deadline <= time_s:
            commands += self.until_deadline()
        self.now = max(self.now, time_s)
        return commands

    def events(self) -> list[Event]:
        """What the machine was told, in order."""
        return [tell.event for tell in self.told]

    def used(self) -> int | None:
        """The attempt of the connection in use."""
        attempts = [command.attempt for command in self.seen if isinstance(command, UseConnection)]
        return attempts[-1] if attempts else None


class Call:
    """Both ends, and the channel between them."""

    def __init__(self, a: End | None = None, b: End | None = None) -> None:
        self.a = a or End("a")
        self.b = b or End("b")
        for end in (self.a, self.b):
            end.start()

    def deliver(self) -> None:
        """Let both hear what was said until nobody has anything to say."""
        for _ in range(200):
            if not self.a.said and not self.b.said:
                return
            for sender, receiver in ((self.a, self.b), (self.b, self.a)):
                if sender.said:
                    message = sender.said.pop(0)
                    if receiver.left is None:
                        receiver.hear(message)
        raise AssertionError("they talk for ever")

    def connect(self, attempt: int = 0) -> None:
        """Both connections of this attempt are up."""
        self.a.connect(attempt, self.b.certificate)
        self.b.connect(attempt, self.a.certificate)
        self.deliver()

    def talk(self) -> None:
        """Say hello, negotiate, connect."""
        self.deliver()
        self.connect()
        assert self.a.events()[-1] is self.b.events()[-1] is Event.CONNECTED
