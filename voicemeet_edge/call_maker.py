"""Makes what a call begins with: the search for a partner, and the session with who was found.

One rule: what is kept from call to call lies here (which way to the relay worked, what the line carried, the
pool that was chosen at the panel), and no call begins by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from voicemeet_edge.backend.client import Backend
from voicemeet_edge.backend.tokens import DeviceTokens
from voicemeet_edge.backend.verbs import DeskState, MatchedReply
from voicemeet_edge.build import (
    call_manner,
    door_label,
    intercom_keys,
    peer_options,
    search_target,
    silence_frame,
    turn_memory,
)
from voicemeet_edge.call.negotiation import Kind
from voicemeet_edge.call.search import Search
from voicemeet_edge.call.session import CallSession, News, SessionParts
from voicemeet_edge.panel.keypad import PoolPressed
from voicemeet_edge.settings import Settings
from voicemeet_edge.signaling.sealed import make_envelope
from voicemeet_edge.signaling.socket import RealtimeSocket
from voicemeet_edge.voice.control import LineMemory
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.playout import Playout


def load_call_parts() -> None:
    """Load what only a call needs, with aiortc: a sixth of all. The first press would wait for it."""
    import voicemeet_edge.webrtc.peer  # noqa: F401

    # The first one loads libopus and tries what it can do, 44 M instructions on arm64.
    Playout()


class CallMaker:
    """Searches and sessions of one device.

    Args:
        settings: of the device.
        backend: asked by all of them.
        socket: that all of them talk over.
        tokens: of the device's own pool; pools of further buttons have passes of their own.
        on_rtp: given each packet of voice.
    """

    def __init__(
        self,
        settings: Settings,
        backend: Backend,
        socket: RealtimeSocket,
        tokens: DeviceTokens,
        on_rtp: Callable[[RtpAudio], None],
    ) -> None:
        self.label = door_label(settings)
        """What desks read to call this device by name; "": none can."""
        self.settings = settings
        """In force; what may change while the device runs counts from the next call on."""
        self._backend = backend
        self._socket = socket
        self._tokens = tokens
        self._on_rtp = on_rtp
        self._pool = settings.call.pool  # that the next search is for
        self._pool_tokens = {
            button.pool: DeviceTokens(backend, shown_pass=button.shown_pass)
            for button in settings.panel.keypad
        }
        self._keys = intercom_keys(settings)
        self._silence = silence_frame(settings)
        self._turn_memory = turn_memory(settings)  # which TURN transport worked
        self._line_memory = LineMemory()  # what the line carried

    def choose_pool(self, pressed: object) -> None:
        """Search in the pool of this button from now on; any but a keypad's is for the device's own."""
        self._pool = pressed.pool if isinstance(pressed, PoolPressed) else self.settings.call.pool

    def search(self, state: DeskState = DeskState.FREE) -> Search:
        """Return a search in the chosen pool."""
        tokens = self._pool_tokens.get(self._pool, self._tokens)
        target = replace(search_target(self.settings, self._pool), state=state)
        return Search(self._backend, tokens, self._socket, target)

    def standing(self) -> Search:
        """Return the search of a device that desks may call by name."""
        target = replace(search_target(self.settings, self.settings.call.pool), label=self.label)
        return Search(self._backend, self._tokens, self._socket, target)

    def session(
        self,
        matched: MatchedReply,
        kind: Kind,
        on_news: Callable[[News], None],
        *,
        is_eager: bool = True,
    ) -> CallSession:
        """Return the session of a match; `is_eager`: it may speak before the other side was chosen."""
        from voicemeet_edge.webrtc.peer import new_certificate  # only here: see load_call_parts

        parts = SessionParts(
            self._backend,
            self._socket,
            make_envelope(self._keys, matched.call_id, matched.slot),
            peer_options(self.settings, self._turn_memory, self._line_memory),
            new_certificate(),
            self._silence,
            replace(call_manner(self.settings), is_eager=is_eager),
        )
        return CallSession(matched, kind, parts, on_news=on_news, on_rtp=self._on_rtp)
