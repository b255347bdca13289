"""From settings to the values each part takes: the translation, and nothing else."""

from __future__ import annotations

from pathlib import Path

from voicemeet_edge.audio.alsa import AlsaCard
from voicemeet_edge.audio.card import SAMPLE_RATE, SoundCard
from voicemeet_edge.audio.events import VoiceOptions
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.call.keys import parse_key
from voicemeet_edge.call.machine import Rules
from voicemeet_edge.settings import Settings
from voicemeet_edge.voice.opus import OpusEncoder
from voicemeet_edge.webrtc.options import IcePolicy, IceTransport, PeerOptions, TurnMemory

FRAME_BYTES = SAMPLE_RATE // 50 * 2  # 20 ms of 16-bit mono


def call_rules(settings: Settings) -> Rules:
    """The times the call machine plays by."""
    call = settings.call
    return Rules(
        role=Role(call.role),
        search_timeout_s=call.search_timeout_s,
        ring_timeout_s=call.ring_timeout_s,
        connect_timeout_s=call.connect_timeout_s,
        reconnect_timeout_s=call.reconnect_timeout_s,
        max_call_s=call.max_call_s,
        warn_before_end_s=call.warn_before_end_s,
        report_window_s=call.report_window_s,
    )


def voice_options(settings: Settings) -> VoiceOptions:
    """The voice part of the settings."""
    audio = settings.audio
    return VoiceOptions(
        volume_percent=audio.volume,
        microphone_gain_db=audio.microphone_gain_db,
        echo=audio.echo,
        half_duplex=audio.half_duplex,
        bitrate=audio.bitrate,
        complexity=audio.complexity,
    )


def peer_options(settings: Settings, memory: TurnMemory) -> PeerOptions:
    """The network part of the settings; servers and certificate come with each call."""
    return PeerOptions(
        policy=IcePolicy(settings.ice_policy_for_pool),
        addresses=settings.ice.addresses,
        interfaces=settings.ice.interfaces,
        ipv6=settings.ice.ipv6,
        red=True,
        turn_memory=memory,
        connect_timeout_s=settings.call.connect_timeout_s,
    )


def turn_memory(settings: Settings) -> TurnMemory:
    """The TURN ladder of the settings, to be kept from call to call."""
    return TurnMemory([IceTransport[name.upper()] for name in settings.ice.turn_order])


def intercom_keys(settings: Settings) -> list[bytes]:
    """The keys shared with the other side; empty without sealed signaling."""
    return [parse_key(key) for key in settings.security.intercom_keys]


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
    from voicemeet_edge.testing.sound import Echo, VirtualCard

    return VirtualCard(
        audio.virtual_in or None,
        Path(audio.virtual_out) if audio.virtual_out else None,
        echo=Echo() if audio.virtual_echo else None,
    )
