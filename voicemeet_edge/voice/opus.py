"""Opus by ctypes: one encoder, one decoder, and what a packet says about itself (RFC 6716).

The library is the one inside the PyAV wheel, else the system's. The one rule: every length is checked
before libopus sees it and every return code after, so that no packet can do more than raise OpusError.
"""

from __future__ import annotations

import ctypes
import importlib.util
import re
import time
from collections.abc import Callable
from enum import Enum
from functools import lru_cache
from math import inf, log10
from pathlib import Path
from typing import Any, cast

import numpy as np

from voicemeet_edge.errors import RemoteError
from voicemeet_edge.records import dataclass
from voicemeet_edge.voice.format import FRAME_MS, FRAME_SAMPLES, SAMPLE_RATE, Samples

MAX_PACKET_SAMPLES = 5_760  # 120 ms; no Opus packet is longer (RFC 6716 §3.2.5, R5)
PACKET_MS = (20, 40, 60, 120)  # ms of sound in a packet that we send
MAX_PAYLOAD_BYTES = 1_500  # an Ethernet frame; more cannot have come in one RTP packet
SYSTEM_LIBRARY = "libopus.so.0"
DEEP_COMPLEXITY = 5  # of the decoder; from here on it conceals by its neural network
# s for the first concealed frame of a gap: the loudspeaker takes 10 ms at a time, from a buffer of 40.
MOST_DEEP_S = 0.012
MAX_FRAMES = 48  # 120 ms of 2.5 ms frames (RFC 6716 §3.2.5)
CLEAN_BITRATE = 46_400  # bit/s, 116 bytes a frame: with IPv4, UDP, RTP, GCM 68.8 kb/s, TURN's channel 70.4

ROOMY_BITRATE = 40_000  # bit/s; less is too tight to leave a bit of it unused (PESQ-WB 0.15 at 22 kb/s)

_APPLICATION_VOIP = 2048
_SET_BITRATE = 4002
_SET_MAX_BANDWIDTH = 4004
_SET_VBR = 4006
_SET_COMPLEXITY = 4010
_SET_INBAND_FEC = 4012
_SET_PACKET_LOSS_PERC = 4014
_SET_DTX = 4016
_SET_SIGNAL = 4024
_GET_LOOKAHEAD = 4027
_RESET_STATE = 4028
_SET_GAIN = 4034
_SIGNAL_VOICE = 3001
# Speech is in the first 8 kHz, and there the bits help most: at 36 kb/s PESQ-WB is 4.4 so, 4.1 with 20 kHz;
# and SILK alone has FEC for all it carries.
_BANDWIDTH_WIDE = 1103


class OpusError(RemoteError):
    """libopus refused a packet or a setting, or the payload is not an Opus packet."""

    code = "bad_opus"


class Mode(Enum):
    """The three coders inside Opus (RFC 6716 §3.1, table 2)."""

    SILK = "silk"
    HYBRID = "hybrid"
    CELT = "celt"


@dataclass(frozen=True, slots=True)
class PacketInfo:
    """What the first bytes of an Opus packet say."""

    mode: Mode
    frame_samples: int
    frames: int
    stereo: bool
    has_fec: bool
    """The first frame carries a low bit rate copy of the frame before (RFC 6716 §4.2.4)."""

    @property
    def samples(self) -> int:
        """Length of the whole packet at 48 kHz."""
        return self.frame_samples * self.frames


_SILK_SAMPLES = (480, 960, 1920, 2880)
_HYBRID_SAMPLES = (480, 960)
_CELT_SAMPLES = (120, 240, 480, 960)


def parse_packet(payload: bytes) -> PacketInfo:
    """Read the table of contents of an Opus packet (RFC 6716 §3.1, §3.2, R1 to R7).

    Raises:
        OpusError: empty, too long, or against one of the rules.
    """
    if not 1 <= len(payload) <= MAX_PAYLOAD_BYTES:
        raise OpusError("an Opus packet has 1 to 1500 bytes")
    toc = payload[0]
    if toc & 3 == 0:  # one frame, as nearly every packet: all there is to say was said before
        plain, with_fec, flags = _ONE_FRAME[toc >> 2]
        return with_fec if len(payload) > 1 and payload[1] & flags else plain
    frames, first = _frames(payload)
    if frames == 1:  # with padding, as our own
        plain, with_fec, flags = _ONE_FRAME[toc >> 2]
        return with_fec if first < len(payload) and payload[first] & flags else plain
    mode, frame_samples, stereo = _read_toc(toc)
    if frames * frame_samples > MAX_PACKET_SAMPLES:
        raise OpusError("an Opus packet lasts at most 120 ms")
    has_fec = first < len(payload) and bool(payload[first] & _lbrr_flags(mode, frame_samples, stereo))
    return PacketInfo(mode, frame_samples, frames, stereo, has_fec)


def _read_toc(toc: int) -> tuple[Mode, int, bool]:
    """Read coder, frame length and stereo from the first byte (RFC 6716 §3.1, table 2)."""
    config, stereo = toc >> 3, bool(toc & 4)
    if config < 12:
        return Mode.SILK, _SILK_SAMPLES[config & 3], stereo
    if config < 16:
        return Mode.HYBRID, _HYBRID_SAMPLES[config & 1], stereo
    return Mode.CELT, _CELT_SAMPLES[config & 3], stereo


def _frames(payload: bytes) -> tuple[int, int]:
    """Count the frames and find where the first one starts (RFC 6716 §3.2)."""
    code = payload[0] & 3
    size = len(payload)
    if code == 0:
        return 1, 1
    if code == 1:
        if size % 2 == 0:
            raise OpusError("code 1 needs two frames of one size")
        return 2, 1
    if code == 2:
        return 2, 1 + _length_bytes(payload, 1)
    if size < 2:
        raise OpusError("code 3 without its frame count")
    count = payload[1] & 0x3F
    if not 1 <= count <= MAX_FRAMES:
        raise OpusError("code 3 with an impossible frame count")
    position = 2
    if payload[1] & 0x40:
        while True:
            if position >= size:
                raise OpusError("padding runs past the packet")
            position += 1
            if payload[position - 1] != 255:
                break
    if payload[1] & 0x80:
        for _ in range(count - 1):
            position += _length_bytes(payload, position)
    return count, position


def _length_bytes(payload: bytes, position: int) -> int:
    """Return how many bytes the frame length at `position` takes (RFC 6716 §3.2.1)."""
    if position >= len(payload):
        raise OpusError("a frame length is missing")
    return 1 if payload[position] < 252 else 2


def _lbrr_flags(mode: Mode, frame_samples: int, stereo: bool) -> int:
    """Mask the LBRR flags in a frame's first byte: one follows a VAD bit per 20 ms (RFC 6716 §4.2.3).

    The flags are coded with probability one half, so they are the plain top bits of the byte.
    """
    if mode is Mode.CELT:
        return 0
    silk_frames = max(1, frame_samples // FRAME_SAMPLES)
    return 1 << (7 - silk_frames) | (1 << (6 - 2 * silk_frames) if stereo else 0)


def _one_frame(toc: int) -> tuple[PacketInfo, PacketInfo, int]:
    """Return what a packet of one frame says without and with FEC, and the bits that tell which."""
    mode, samples, stereo = _read_toc(toc)
    without, with_fec = (PacketInfo(mode, samples, 1, stereo, has_fec) for has_fec in (False, True))
    return without, with_fec, _lbrr_flags(mode, samples, stereo)


_ONE_FRAME = [_one_frame(toc) for toc in range(0, 256, 4)]


def library_path() -> str:
    """Find libopus: the one in the PyAV wheel (its name carries a build hash), else the system's."""
    spec = importlib.util.find_spec("av")
    if spec is not None and spec.submodule_search_locations:
        beside = Path(next(iter(spec.submodule_search_locations))).parent / "av.libs"
        for found in sorted(beside.glob("libopus*.so*")):
            return str(found)
    return SYSTEM_LIBRARY


@lru_cache(maxsize=1)
def _library() -> ctypes.CDLL:
    """Load libopus once."""
    return _load(library_path())


def _load(path: str) -> ctypes.CDLL:
    """Load a libopus and declare the functions used."""
    library = ctypes.CDLL(path)
    pointer, i32, u8s = ctypes.c_void_p, ctypes.c_int32, ctypes.c_char_p
    signatures: dict[str, tuple[Any, list[Any]]] = {
        "opus_encoder_create": (pointer, [i32, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]),
        "opus_encoder_destroy": (None, [pointer]),
        "opus_decoder_create": (pointer, [i32, ctypes.c_int, ctypes.POINTER(ctypes.c_int)]),
        "opus_decoder_destroy": (None, [pointer]),
        "opus_packet_pad": (ctypes.c_int, [pointer, i32, i32]),
        "opus_strerror": (u8s, [ctypes.c_int]),
        # Variadic: only the fixed arguments are declared, the last is passed as a ctypes object.
        "opus_encoder_ctl": (ctypes.c_int, [pointer, ctypes.c_int]),
        "opus_decoder_ctl": (ctypes.c_int, [pointer, ctypes.c_int]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


def _hot(name: str, library: ctypes.CDLL | None = None) -> Callable[..., int]:
    """Return a function that is called for every frame, without declared argument types.

    ctypes calls a converter for each declared argument, which is 12 µs a frame with cold caches. Without
    them bytes, None and numbers go as char *, NULL and int; pointers must be c_void_p or buffers of ctypes.
    """
    # Each indexing makes an object of its own, so this declares nothing away.
    function = (library or _library())[name]
    function.restype = ctypes.c_int
    return cast(Callable[..., int], function)


def _check(result: int, what: str) -> int:
    """Turn a negative libopus return code into an OpusError."""
    if result < 0:
        raise OpusError(f"libopus, {what}: {_library().opus_strerror(result).decode()}")
    return int(result)


def _create(function: Callable[..., int | None], *arguments: int) -> int:
    """Create a coder and check the error that comes back beside it."""
    error = ctypes.c_int(0)
    state = function(*arguments, ctypes.byref(error))
    _check(error.value, "create")
    if not state:
        raise OpusError("libopus, create: out of memory")
    return state


@lru_cache(maxsize=1)
def deep_library() -> ctypes.CDLL | None:
    """Return the system's libopus when it conceals losses by a neural network, and fast enough here.

    From 1.5 on it can be built so, as Debian 13's is and the wheel's is not; only a try tells. It is worth
    0.06 to 0.3 PESQ-WB under loss, at the receiver alone; its first concealed frame of a gap costs 12.5 M
    instructions in the thread that feeds the loudspeaker.
    """
    try:
        library = _load(SYSTEM_LIBRARY)
        function = library.opus_get_version_string
    except (OSError, AttributeError):
        return None
    function.restype = ctypes.c_char_p
    version = re.match(rb"libopus (\d+)\.(\d+)", function())
    if version is None or (int(version[1]), int(version[2])) < (1, 5):
        return None
    return library if _conceals_deep(library) else None


def _conceals_deep(library: ctypes.CDLL) -> bool:
    """Try whether a higher complexity conceals otherwise, and how long that takes."""
    encoder = OpusEncoder()
    pcm = (np.sin(np.arange(FRAME_SAMPLES) * 0.02) * 8_000).astype(np.int16).tobytes()
    packets = [encoder.encode(pcm) for _ in range(4)]
    encoder.close()
    concealed, fastest = [], inf
    for deep in (False, True):
        decoder = OpusDecoder(library, deep=deep)
        for _ in range(3):
            for packet in packets:
                decoder.decode(packet)
            began = time.perf_counter()
            last = decoder.conceal(FRAME_SAMPLES).tobytes()
            took = time.perf_counter() - began
            fastest = min(fastest, took) if deep else fastest
        concealed.append(last)
        decoder.close()
    return concealed[0] != concealed[1] and fastest <= MOST_DEEP_S


class OpusEncoder:
    """Encode mono frames of 20, 40, 60 or 120 ms: every payload of a bit rate has one size, whatever is said.

    Where there is room, libopus takes the bits it needs, up to that size, and Opus' own padding (RFC 6716
    §3.2.5) fills the rest. Its constant bit rate searches for what fills the size: nearly the same to the
    ear (PESQ-WB +0.0 to +0.1), at twice the CPU. One thread at a time may use it.
    """

    def __init__(
        self,
        bitrate: int = CLEAN_BITRATE,
        complexity: int = 6,
        fec: bool = False,
        loss: int = 0,
        rate: int = SAMPLE_RATE,
    ) -> None:
        """Make an encoder of sound at `rate` Hz (RFC 6716 §2 lists which)."""
        self._rate = rate
        library = _library()
        self._state: int | None = None
        self._encode = _hot("opus_encode")
        self._ctl = library.opus_encoder_ctl
        self._destroy = library.opus_encoder_destroy
        self._state = _create(library.opus_encoder_create, rate, 1, _APPLICATION_VOIP)
        self._encoder = ctypes.c_void_p(self._state)
        self._output = ctypes.create_string_buffer(MAX_PAYLOAD_BYTES)
        self._pad = library.opus_packet_pad
        # Silence must not show in packet sizes or packet times: no discontinuous transmission.
        self._set(_SET_DTX, 0)
        self._set(_SET_SIGNAL, _SIGNAL_VOICE)
        self._set(_SET_MAX_BANDWIDTH, _BANDWIDTH_WIDE)
        self._set(_SET_COMPLEXITY, complexity)
        self.set_bitrate(bitrate)
        self.set_fec(fec)
        self.set_loss(loss)

    def _set(self, request: int, value: int) -> None:
        _check(self._ctl(self._state, request, ctypes.c_int(value)), "set")

    def set_bitrate(self, bitrate: int) -> None:
        """Change the bit rate, in bit/s, of 20 ms frames; the payload size follows: bitrate / 400 bytes."""
        self.set_packet(bitrate // 400, FRAME_MS)

    def set_packet(self, payload_bytes: int, frame_ms: int) -> None:
        """Change size and length of every packet from now on; 20, 40, 60 or 120 ms."""
        bitrate = payload_bytes * 8000 // frame_ms
        if frame_ms not in PACKET_MS or not 6_000 <= bitrate <= 510_000:
            raise OpusError("an Opus packet lasts 20, 40, 60 or 120 ms, at 6 to 510 kb/s")
        self._set(_SET_BITRATE, bitrate)
        self._payload_bytes = payload_bytes
        self._samples = frame_ms * self._rate // 1000
        self._set(_SET_VBR, int(bitrate >= ROOMY_BITRATE))

    def set_fec(self, on: bool) -> None:
        """Switch in-band FEC (LBRR) on; it appears when `set_loss` says more than 0."""
        self._set(_SET_INBAND_FEC, int(on))

    def set_loss(self, percent: int) -> None:
        """Tell the encoder the expected loss in percent: drives how much FEC it adds."""
        self._set(_SET_PACKET_LOSS_PERC, max(0, min(100, percent)))

    @property
    def payload_bytes(self) -> int:
        """Size of every payload at the present bit rate."""
        return self._payload_bytes

    @property
    def lookahead_samples(self) -> int:
        """Delay the encoder adds beyond the frame itself, in samples of its rate."""
        value = ctypes.c_int(0)
        _check(self._ctl(self._state, _GET_LOOKAHEAD, ctypes.byref(value)), "get")
        return value.value

    def encode(self, pcm: bytes) -> bytes:
        """Encode a frame of s16le, as long as `set_packet` said; returns `payload_bytes` bytes."""
        samples = self._samples
        if len(pcm) != samples * 2:
            raise OpusError(f"a frame to encode has {samples} samples")
        whole = self._payload_bytes
        size = _check(self._encode(self._encoder, pcm, samples, self._output, whole), "encode")
        if size < whole:
            _check(self._pad(self._output, size, whole), "pad")
        return cast(bytes, self._output[:whole])

    def close(self) -> None:
        """Free the encoder; idempotent."""
        state, self._state = self._state, None
        if state is not None:
            self._encoder.value = None
            self._destroy(state)

    def __del__(self) -> None:
        if getattr(self, "_state", None) is not None:
            self.close()


class OpusDecoder:
    """Decode to mono int16 at 48 kHz, recover the frame before from FEC, or conceal.

    One thread at a time may use it.
    """

    def __init__(self, library: ctypes.CDLL | None = None, *, deep: bool | None = None) -> None:
        """Make a decoder.

        Args:
            library: libopus; None: the one that conceals best here.
            deep: conceal by the neural network in it; None: where it has one.
        """
        if library is None:
            library = deep_library() or _library()
            deep = library is not _library()
        self._state: int | None = None
        self._decode = _hot("opus_decode", library)
        self._ctl = library.opus_decoder_ctl
        self._destroy = library.opus_decoder_destroy
        self._state = _create(library.opus_decoder_create, SAMPLE_RATE, 1)
        self._decoder = ctypes.c_void_p(self._state)
        self._output = ctypes.create_string_buffer(MAX_PACKET_SAMPLES * 2)
        if deep:
            _check(self._ctl(self._state, _SET_COMPLEXITY, ctypes.c_int(DEEP_COMPLEXITY)), "set")

    def decode(self, payload: bytes | None, fec: bool = False) -> Samples:
        """Decode a packet; with `fec`, the 20 ms before it; without a payload, conceal 20 ms.

        Raises:
            OpusError: not an Opus packet; the decoder stays usable.
        """
        if payload is None:
            return self.conceal(FRAME_SAMPLES)
        info = parse_packet(payload)
        if fec:
            return self.recover(payload, info.frame_samples)
        return samples_of(self.decode_parsed(payload))

    def decode_parsed(self, payload: bytes) -> bytes:
        """Decode a packet that `parse_packet` has taken, without looking at it again; returns s16le."""
        count = self._decode(self._decoder, payload, len(payload), self._output, MAX_PACKET_SAMPLES, 0)
        if count < 0:
            _check(count, "decode")
        return cast(bytes, self._output[: count * 2])

    def recover(self, payload: bytes, samples: int) -> Samples:
        """Decode the last `samples` before this packet from the FEC inside it (RFC 6716 §4.2.4)."""
        parse_packet(payload)
        return samples_of(self._run(payload, _whole(samples), 1))

    def conceal(self, samples: int) -> Samples:
        """Continue the sound for `samples` (a multiple of 120, up to 5760) without a packet."""
        return samples_of(self._run(None, _whole(samples), 0))

    def _run(self, payload: bytes | None, samples: int, fec: int) -> bytes:
        size = 0 if payload is None else len(payload)
        count = self._decode(self._decoder, payload, size, self._output, samples, fec)
        if count < 0:
            _check(count, "decode")
        return cast(bytes, self._output[: count * 2])

    def set_gain(self, gain: float) -> None:
        """Multiply all sound from now on by an amplitude factor; 0 is silence."""
        decibels = 20.0 * log10(gain) if gain > 0.0 else -128.0
        # Q8 dB in 16 bits (RFC 7845 §5.1 has the same); -128 dB leaves nothing of 16 bits.
        steps = min(max(round(decibels * 256), -32_768), 32_767)
        _check(self._ctl(self._state, _SET_GAIN, ctypes.c_int(steps)), "set")

    def reset(self) -> None:
        """Forget the past, as for a new sender."""
        _check(self._ctl(self._state, _RESET_STATE), "reset")

    def close(self) -> None:
        """Free the decoder; idempotent."""
        state, self._state = self._state, None
        if state is not None:
            self._decoder.value = None
            self._destroy(state)

    def __del__(self) -> None:
        if getattr(self, "_state", None) is not None:
            self.close()


def samples_of(pcm: bytes) -> Samples:
    """Read s16le as samples; the array is read-only."""
    return np.frombuffer(pcm, np.int16)


def _whole(samples: int) -> int:
    """Check a length that libopus can conceal: whole 2.5 ms, at most 120 ms."""
    if samples % 120 or not 120 <= samples <= MAX_PACKET_SAMPLES:
        raise OpusError("concealment comes in whole 2.5 ms up to 120 ms")
    return samples
