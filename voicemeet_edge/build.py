"""From settings to the values each part takes: the translation, and nothing else."""

from __future__ import annotations

from pathlib import Path

from voicemeet_edge.audio.alsa import AlsaCard
from voicemeet_edge.audio.card import SoundCard
from voicemeet_edge.backend.admission import admission_key
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.conversation import Manner
from voicemeet_edge.call.door_label import make_label
from voicemeet_edge.call.keys import parse_key
from voicemeet_edge.call.search import SearchTarget
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.settings import Settings
from voicemeet_edge.voice.control import LineMemory
from voicemeet_edge.voice.format import FRAME_BYTES
from voicemeet_edge.voice.opus import OpusEncoder
from voicemeet_edge.webrtc.ice_server import TurnMemory
from voicemeet_edge.webrtc.options import PeerOptions


def peer_options(settings: Settings, memory: TurnMemory, lines: LineMemory) -> PeerOptions:
    """The network part of the settings; servers and certificate come with each call."""
    return PeerOptions(
        policy=settings.ice_policy_for_pool,
        addresses=settings.ice.addresses,
        interfaces=settings.ice.interfaces,
        ipv6=settings.ice.ipv6,
        red=True,
        turn_memory=memory,
        line_memory=lines,
        connect_timeout_s=settings.call.connect_timeout_s,
    )


def turn_memory(settings: Settings) -> TurnMemory:
    """The order of relay protocols of the settings, to be kept from call to call."""
    return TurnMemory(settings.ice.turn_order)


def intercom_keys(settings: Settings) -> list[bytes]:
    """The keys shared with the other side; empty without sealed signaling."""
    return [parse_key(key) for key in settings.security.intercom_keys]


def search_target(settings: Settings, pool: str) -> SearchTarget:
    """As what this device looks in a pool, with what proves that it has the intercom key."""
    keys = intercom_keys(settings)
    return SearchTarget(pool, settings.call.role, admission_key(keys[0], pool) if keys else None)


def call_manner(settings: Settings) -> Manner:
    """How this device behaves in its calls: what it calls itself, and whether a desk may open the door."""
    security, call, panel = settings.security, settings.call, settings.panel
    # Without a key the name is the backend's to read, so it is said where only who has a pass can be.
    may_say = bool(security.intercom_keys or settings.backend.pass_)
    return Manner(name=call.name if may_say else "", open_s=panel.relay_s if panel.relay_line else 0.0)


def door_label(settings: Settings) -> str:
    """What desks read to call this device by name; "" for one that cannot be called."""
    backend, call = settings.backend, settings.call
    # Standing by needs a connection and a pass; and an answerer is there in any case.
    if call.role is not Role.CALLER or not (call.reachable and backend.pass_) or backend.close_idle:
        return ""
    keys = intercom_keys(settings)
    return make_label(keys[0] if keys else None, call.pool, call.name)


def silence_frame(settings: Settings) -> bytes:
    """One Opus frame of silence, of the size every frame of a call has."""
    encoder = OpusEncoder(settings.audio.bitrate, settings.audio.complexity, fec=True)
    try:
        return encoder.encode(bytes(FRAME_BYTES))
    finally:
        encoder.close()


def sound_card(settings: Settings) -> SoundCard:
    """The sound card of the settings, real or virtual; opened only when a call needs it."""
    audio = settings.audio
    if audio.card == "alsa":
        return AlsaCard(audio.capture, audio.playback)
    # Only a machine without sound needs the double, so only there it is loaded.
    from voicemeet_edge.testing.sound import SPEECH, Echo, VirtualCard

    if audio.virtual_in not in ("", SPEECH) and not Path(audio.virtual_in).is_file():
        raise SettingsError(
            "settings",
            "audio.virtual_in",
            f'"{audio.virtual_in}"',
            f'a WAV file that is there, or "{SPEECH}"',
        )
    return VirtualCard(
        audio.virtual_in or None,
        Path(audio.virtual_out) if audio.virtual_out else None,
        echo=Echo() if audio.virtual_echo else None,
    )
