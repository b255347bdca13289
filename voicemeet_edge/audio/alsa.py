"""A real sound card through ALSA: blocking streams of 10 ms periods on top of pyalsaaudio.

One rule: a card is opened by stable name (`plughw:CARD=…`), never by number, and every way pyalsaaudio
has to say that something is wrong (negative returns, ALSAAudioError with nothing but a text, a state)
becomes XrunError, DeviceLostError or SoundFatalError here. Streams are opened non-blocking and waited for
with a limit, so that a driver that stopped delivering is a lost device and not a hanging thread.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import select
import time
from collections.abc import Callable
from typing import Any

import alsaaudio
from typing_extensions import override

from voicemeet_edge.audio.card import CaptureStream, PlaybackStream, SoundCard
from voicemeet_edge.audio.choice import AUTO, Choice, SoundDevice, choose
from voicemeet_edge.audio.devices import list_devices
from voicemeet_edge.audio.hardware_mixer import make_audible
from voicemeet_edge.errors import DeviceLostError, SoundError, SoundFatalError, XrunError
from voicemeet_edge.threads import named_thread
from voicemeet_edge.voice.format import PERIOD_BYTES, PERIOD_SAMPLES, SAMPLE_RATE

logger = logging.getLogger(__name__)

PERIODS = 4  # of 10 ms: what USB cards and a Pi with other work hold without running dry
PLAYBACK_PERIODS = PERIODS + 1  # in a call there is room for two when one is decided
STUCK_S = 2.0  # s without a period from an open card; a machine that stands still for a second is no loss
POLL_MS = 100  # ms; some plugins miss a wake-up, so look again by ourselves
SPIN_S = 0.002  # s; shorter than a period, long enough not to burn a core at real-time priority
CLOSE_S = 1.0  # s; closing a vanished USB card may hang in the driver, and is left to a thread then
EPIPE = -32  # what pyalsaaudio returns for an xrun, in both directions
LOST_STATES = (alsaaudio.PCM_STATE_DISCONNECTED, alsaaudio.PCM_STATE_SUSPENDED)

FATAL_TEXTS = ("Invalid argument", "Operation not permitted", "Permission denied")
"""strerror texts that waiting does not mend; anything else is taken for a lost device (no errno comes)."""

BUSY_TEXT = "Device or resource busy"

OpenPcm = Callable[..., Any]


def _to_sound_error(error: alsaaudio.ALSAAudioError, doing: str) -> SoundError:
    """Map pyalsaaudio's one exception, which has only a text, to ours."""
    text = str(error)
    if any(fatal in text for fatal in FATAL_TEXTS):
        return SoundFatalError(f"{doing}: {text}")
    if BUSY_TEXT in text:
        return DeviceLostError(f"{doing}: another program holds it", code="sound_device_busy")
    return DeviceLostError(f"{doing}: {text}")


def _lost(error: alsaaudio.ALSAAudioError, doing: str) -> DeviceLostError:
    """Map what an open stream says: it worked before, so whatever it is, opening it again may mend it."""
    return DeviceLostError(f"{doing}: {error}")


def _open(open_pcm: OpenPcm, device: str, kind: int) -> Any:
    """Open and check what ALSA really gave: it changes rate and period silently."""
    doing = "open the microphone" if kind == alsaaudio.PCM_CAPTURE else "open the loudspeaker"
    try:
        pcm = open_pcm(
            type=kind,
            mode=alsaaudio.PCM_NONBLOCK,
            rate=SAMPLE_RATE,
            channels=1,
            format=alsaaudio.PCM_FORMAT_S16_LE,
            periodsize=PERIOD_SAMPLES,
            periods=PERIODS if kind == alsaaudio.PCM_CAPTURE else PLAYBACK_PERIODS,
            device=device,
        )
    except alsaaudio.ALSAAudioError as error:
        raise _to_sound_error(error, doing) from error
    info = pcm.info()
    given = (info["rate"], info["channels"], info["period_size"])
    if given != (SAMPLE_RATE, 1, PERIOD_SAMPLES):
        _close(pcm)
        raise SoundFatalError(f"{doing}: the card gives {given}, not 48 kHz mono in 10 ms periods")
    return pcm


def _close(pcm: Any) -> None:
    """Drop what was not heard and close, in a thread of its own when the driver hangs. Never raises."""

    def close() -> None:
        for action in (pcm.drop, pcm.close):  # close() alone would wait until everything is played
            try:
                action()
            except alsaaudio.ALSAAudioError as error:
                logger.debug("closing a card that is gone: %s", error)

    closer = named_thread("sound-close", close)
    closer.start()
    closer.join(CLOSE_S)
    if closer.is_alive():
        logger.warning("the sound driver does not close its stream; it is left behind")


class _Stream:
    """What both directions share: waiting with a limit, and telling errors apart."""

    def __init__(self, pcm: Any) -> None:
        self._pcm: Any | None = pcm
        self._poll = select.poll()
        for descriptor, mask in pcm.polldescriptors():
            self._poll.register(descriptor, mask)

    @property
    def _open_pcm(self) -> Any:
        if self._pcm is None:
            raise DeviceLostError("the stream is closed")
        return self._pcm

    def _wait(self, since: float, doing: str) -> None:
        """Wait for the card to be ready, or a little; raise when it has been silent for too long."""
        pcm = self._open_pcm
        try:
            if pcm.state() in LOST_STATES:
                raise DeviceLostError(f"{doing}: the card was unplugged or suspended")
            events = pcm.polldescriptors_revents(self._poll.poll(POLL_MS))
        except alsaaudio.ALSAAudioError as error:
            raise _lost(error, doing) from error
        if time.monotonic() - since > STUCK_S:
            raise DeviceLostError(f"{doing}: the card stopped")
        if not events & (select.POLLIN | select.POLLOUT):
            # An error the next read or write will name, or a plugin's false alarm: never spin on it.
            time.sleep(SPIN_S)

    def close(self) -> None:
        """Free the card; idempotent, never raises."""
        pcm, self._pcm = self._pcm, None
        if pcm is not None:
            _close(pcm)


class AlsaCapture(_Stream, CaptureStream):
    """An open microphone."""

    def __init__(self, pcm: Any) -> None:
        super().__init__(pcm)
        self._pending = bytearray()

    @override
    def read(self) -> bytes:
        """Return the next period; see `CaptureStream.read`."""
        doing = "read the microphone"
        since = time.monotonic()
        while len(self._pending) < PERIOD_BYTES:
            try:
                count, data = self._open_pcm.read()
            except alsaaudio.ALSAAudioError as error:
                raise _lost(error, doing) from error
            if count == EPIPE:
                self._pending.clear()
                raise XrunError("the microphone's buffer ran over")
            if count < 0:
                raise DeviceLostError(f"{doing}: error {count}")
            if count == 0:
                self._wait(since, doing)
            else:
                self._pending += data
        period = bytes(self._pending[:PERIOD_BYTES])
        del self._pending[:PERIOD_BYTES]
        return period


class AlsaPlayback(_Stream, PlaybackStream):
    """An open loudspeaker."""

    def __init__(self, pcm: Any) -> None:
        super().__init__(pcm)
        self._buffer_samples = int(pcm.info()["buffer_size"])
        self._silence = bytes(2 * (self._buffer_samples - PERIOD_SAMPLES))
        self.periods = self._buffer_samples // PERIOD_SAMPLES
        self._fill()

    def _fill(self) -> None:
        """Start with silence: ALSA plays from the first write on, and one period would run dry at once."""
        try:
            self._open_pcm.write(self._silence)
        except alsaaudio.ALSAAudioError as error:
            raise _lost(error, "start the loudspeaker") from error

    @override
    def write(self, pcm: bytes) -> None:
        """Write one period; see `PlaybackStream.write`."""
        doing = "write to the loudspeaker"
        since = time.monotonic()
        rest = pcm
        while rest:
            try:
                count = self._open_pcm.write(rest)
            except alsaaudio.ALSAAudioError as error:
                raise _lost(error, doing) from error
            if count == EPIPE:
                self._fill()
                raise XrunError("the loudspeaker ran dry")
            if count < 0:
                raise DeviceLostError(f"{doing}: error {count}")
            if count == 0:
                self._wait(since, doing)
            rest = rest[count * 2 :]


class AlsaCard(SoundCard):
    """A microphone and a loudspeaker by what the settings say, looked for anew each time one is opened.

    Args:
        capture: "auto", "usb:vendor:product", "port:1-1.2", or an ALSA name such as `plughw:CARD=Device`.
        playback: the same for the loudspeaker.
        open_pcm: pyalsaaudio's PCM class; tests of its failures put another in its place.
        devices: lists what the machine has.
    """

    def __init__(
        self,
        capture: str = AUTO,
        playback: str = AUTO,
        *,
        open_pcm: OpenPcm = alsaaudio.PCM,
        devices: Callable[[], list[SoundDevice]] = list_devices,
    ) -> None:
        self.capture = capture
        self.playback = playback
        self._open = open_pcm
        self._devices = devices
        self._said = ""
        self._audible: set[tuple[str, bool]] = set()
        _silence_alsa()

    def choice(self) -> Choice:
        """What would be opened now, and why."""
        return choose(self._devices(), self.capture, self.playback)

    @override
    def open_capture(self) -> AlsaCapture:
        """Open the microphone."""
        return AlsaCapture(self._opened(alsaaudio.PCM_CAPTURE))

    @override
    def open_playback(self) -> AlsaPlayback:
        """Open the loudspeaker."""
        return AlsaPlayback(self._opened(alsaaudio.PCM_PLAYBACK))

    def _opened(self, kind: int) -> Any:
        choice = self.choice()
        is_capture = kind == alsaaudio.PCM_CAPTURE
        name = choice.capture if is_capture else choice.playback
        if choice.why != self._said:
            self._said = choice.why
            logger.info("sound: %s", choice.why)
        if name is None:
            self._audible.clear()
            raise DeviceLostError(f"there is no {'microphone' if is_capture else 'loudspeaker'}")
        try:
            pcm = _open(self._open, name, kind)
        except DeviceLostError:
            self._audible.discard((name, is_capture))  # another card of that name may come back muted
            raise
        if (name, is_capture) not in self._audible:
            self._audible.add((name, is_capture))
            make_audible(name, capture=is_capture)
        return pcm


def _say_nothing(_file: bytes, _line: int, _function: bytes, _error: int, _format: bytes) -> None:
    """Take what ALSA's library would write to stderr, past our log: the exception says it."""


_TEXT, _NUMBER = ctypes.c_char_p, ctypes.c_int
_say_nothing_to_c = ctypes.CFUNCTYPE(None, _TEXT, _NUMBER, _TEXT, _NUMBER, _TEXT)(_say_nothing)


@functools.cache
def _silence_alsa() -> None:
    try:
        ctypes.CDLL("libasound.so.2").snd_lib_error_set_handler(_say_nothing_to_c)
    except (OSError, AttributeError):
        logger.debug("ALSA's library keeps talking")
