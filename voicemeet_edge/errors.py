"""Every error this project raises on purpose, and the one rule: `is_retryable` decides, nobody else.

    VoiceMeetError
    ├── LocalError                  we did wrong: a bug or a wrong setting; never retried
    │   ├── SettingsError           one line: file, key, value, what was expected; exit status 78
    │   └── IllegalEventError       an event the call machine's table does not know in that state
    ├── RemoteError                 the other party or the server sent what it must not; dropped, counted
    │   ├── FrameError              a Phoenix frame that is not one
    │   ├── MessageError            a signaling message out of its shape
    │   ├── SealError               a sealed payload that does not open
    │   └── SdpError                a session description we refuse
    └── EnvironmentFault            the world around us failed; most heal by waiting
        ├── BackendError            a verb was answered with an error, or not at all
        ├── SignalingError          the Realtime socket or channel refused or vanished
        ├── MediaError              ICE, DTLS or the path failed
        └── SoundError
            ├── XrunError           a period was lost; the stream goes on
            ├── DeviceLostError     the card is gone; close, wait, open again by name
            └── SoundFatalError     the card will never do what we ask (format, rate)

Messages are for people; codes are for code. Neither holds an address, a token, a key or an id.
"""

from __future__ import annotations


class VoiceMeetError(Exception):
    """Root of the tree; `code` is a stable snake_case word, shown in logs and on the wire."""

    code = "error"
    retryable = False

    def __init__(self, message: str = "", *, code: str | None = None) -> None:
        super().__init__(message or code or self.code)
        if code is not None:
            self.code = code


class LocalError(VoiceMeetError):
    """We did wrong."""

    code = "our_fault"


class SettingsError(LocalError):
    """A setting cannot be used; the sentence names file, key, value and what was expected."""

    code = "settings"

    def __init__(self, file: str, key: str, value: str, expected: str, *, line: int = 0) -> None:
        """`line` is where it stands in the file, 0 when nobody knows."""
        where = f" (line {line})" if line else ""
        super().__init__(f"{file}: {key} = {value}{where}: expected {expected}")
        self.file, self.key, self.value, self.expected, self.line = file, key, value, expected, line


class IllegalEventError(LocalError):
    """The call machine does not know this event in this state; nothing was changed."""

    code = "illegal_event"


class RemoteError(VoiceMeetError):
    """The other party or the server did wrong."""

    code = "peer_fault"


class FrameError(RemoteError):
    """Not a Phoenix frame (signaling/frames.py)."""

    code = "bad_frame"


class MessageError(RemoteError):
    """Not a signaling message of contract version 1 (signaling/messages.py)."""

    code = "bad_message"


class SealError(RemoteError):
    """A sealed payload does not open: wrong key, replay, reflection, truncation, other call."""

    code = "bad_seal"


class SdpError(RemoteError):
    """A session description we refuse (webrtc/sdp.py); `code` says why."""

    code = "bad_sdp"


class EnvironmentFault(VoiceMeetError):  # noqa: N818  # a fault of the world, not an error of a program
    """The network, a server or the hardware failed."""

    code = "world_fault"
    retryable = True


class BackendError(EnvironmentFault):
    """A verb failed: `status` is the HTTP status, 0 when there was no answer at all."""

    code = "backend"

    def __init__(
        self,
        message: str = "",
        *,
        code: str | None = None,
        status: int = 0,
        retry_after_s: float | None = None,
    ) -> None:
        super().__init__(message, code=code)
        self.status = status
        self.retry_after_s = retry_after_s
        # 4xx says the request itself is wrong; only "slow down" (429) and "timeout" (408) pass.
        self.retryable = status < 400 or status >= 500 or status in (408, 429)


class SignalingError(EnvironmentFault):
    """The Realtime socket or a channel failed; `fatal` when no retry can help (Unauthorized, …)."""

    code = "signaling"

    def __init__(self, message: str = "", *, code: str | None = None, fatal: bool = False) -> None:
        super().__init__(message, code=code)
        self.retryable = not fatal


class MediaError(EnvironmentFault):
    """ICE found no path, DTLS failed, the fingerprint did not match; `code` says which."""

    code = "media"


class SoundError(EnvironmentFault):
    """The sound card failed."""

    code = "sound"


class XrunError(SoundError):
    """A period was lost (ALSA -EPIPE); the stream is prepared again and goes on."""

    code = "xrun"


class DeviceLostError(SoundError):
    """The card is gone; close the stream and open it again by name, with back-off."""

    code = "sound_device_lost"


class SoundFatalError(SoundError):
    """The card cannot do what we need (no such rate or format); retrying does not help."""

    code = "sound_unusable"
    retryable = False


def is_retryable(error: BaseException) -> bool:
    """Say whether waiting and trying again can help; the only place that decides.

    Errors from outside the tree are retryable only when they are the network's (OSError, which
    covers TimeoutError and ConnectionError on Python >= 3.11).
    """
    if isinstance(error, VoiceMeetError):
        return error.retryable
    return isinstance(error, OSError)
