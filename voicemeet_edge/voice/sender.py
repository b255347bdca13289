"""From 20 ms of sound to RTP payloads, by the plan of the moment (voice/control.py).

The one rule: a packet that was begun is finished by the plan it was begun with, so each plan has one size.
"""

from __future__ import annotations

from voicemeet_edge.voice.control import SendControl
from voicemeet_edge.voice.format import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE
from voicemeet_edge.voice.ladder import SendPlan
from voicemeet_edge.voice.opus import OpusEncoder
from voicemeet_edge.voice.red import RedPacker


class VoiceSender:
    """Gather sound until it makes a packet, encode it, wrap it."""

    def __init__(
        self,
        control: SendControl,
        *,
        complexity: int = 6,
        red_payload_type: int | None = None,
        rate: int = SAMPLE_RATE,
    ) -> None:
        """Prepare to send.

        Args:
            control: says how; asked before each packet.
            complexity: 0 to 10, the encoder's; 6 fits a Raspberry Pi.
            red_payload_type: Opus' own payload type when audio/red was negotiated, else None. Then
                every payload is RED, also where no copy rides along, so one payload type serves.
            rate: of the sound given, in Hz; time stamps count at 48 kHz whatever it is (RFC 7587 §4.1).
        """
        self._control = control
        self._encoder = OpusEncoder(complexity=complexity, rate=rate)
        self._frame_bytes = rate * FRAME_MS // 1000 * 2
        self._packer = None if red_payload_type is None else RedPacker(red_payload_type)
        self._plan: SendPlan | None = None
        self._gathered: list[bytes] = []
        self._began = 0  # timestamp of the first frame gathered

    def encode(self, pcm: bytes, timestamp: int) -> tuple[bytes, int] | None:
        """Take 20 ms of s16le; returns a payload of `plan.packet_bytes` and its timestamp when full."""
        gathered = self._gathered
        if gathered and timestamp != self._began + FRAME_SAMPLES * len(gathered) & 0xFFFFFFFF:
            gathered.clear()  # the microphone lost sound: what was gathered does not join on
        if not gathered:
            if self._control.plan is not self._plan:
                self._apply(self._control.plan)
            self._began = timestamp
        plan = self._plan
        if plan is None or len(pcm) != self._frame_bytes or plan.frame_ms == FRAME_MS:
            return self._pack(self._encoder.encode(pcm), timestamp)
        gathered.append(pcm)
        if len(gathered) * FRAME_MS < plan.frame_ms:
            return None
        frame = self._encoder.encode(b"".join(gathered))
        gathered.clear()
        return self._pack(frame, self._began)

    def _pack(self, frame: bytes, timestamp: int) -> tuple[bytes, int]:
        return (frame if self._packer is None else self._packer.pack(frame, timestamp)), timestamp

    def _apply(self, plan: SendPlan) -> None:
        self._plan = plan
        self._encoder.set_packet(plan.frame_bytes(self._packer is not None), plan.frame_ms)
        self._encoder.set_fec(plan.fec_percent > 0)
        self._encoder.set_loss(plan.fec_percent)
        if self._packer is not None:
            self._packer.set_distances(plan.distances)

    def close(self) -> None:
        """Free the encoder."""
        self._encoder.close()
