"""What the loudspeaker is about to say, queued for the echo canceller.

One rule: a far frame meets the microphone no later than its own echo does. AEC3 finds an echo that comes
up to 250 ms after its reference by itself; a reference that comes after the echo is useless. So the queue
is kept as short as the two threads' jitter allows. One thread appends, one takes: deque is safe for that.
"""

from __future__ import annotations

from collections import deque

from voicemeet_edge.voice.format import PERIOD_BYTES

LIMIT = 16  # periods; a playback thread alone for this long (160 ms) fills it, older frames fall out
WINDOW = 100  # periods (1 s); how long frames must have stood in the queue before they count as delay
KEEP = 1  # periods; what may always be in the queue, the slack for one thread being 10 ms early
MOST_KEEP = 4  # periods; the loudspeaker's own buffer is as long, so even then far comes before its echo
CALM = 10  # windows (10 s) without a gap before the slack shrinks again: every shift costs the canceller


class EchoReference:
    """A bounded queue of far frames with the counts of its own repairs."""

    def __init__(self) -> None:
        self.wanted = True
        """Whether somebody takes them; set before there is sound."""
        self._frames: deque[bytes] = deque(maxlen=LIMIT)
        self._silence = bytes(PERIOD_BYTES)
        self._least = LIMIT
        self._taken = 0
        self._keep = KEEP
        self._calm = 0
        self.gaps = 0
        """Times the microphone was there first and silence stood in."""
        self.slips = 0
        """Far frames dropped because they would have come too late."""

    def put(self, pcm: bytes) -> None:
        """Queue a period of s16le; call it before it is written to the card."""
        if not self.wanted:
            return
        if len(self._frames) == LIMIT:
            self.slips += 1
        self._frames.append(pcm)

    def take(self) -> bytes:
        """Return the far frame, s16le, that belongs to the microphone frame just read."""
        if not self._frames:
            self.gaps += 1
            self._least = self._calm = 0
            self._keep = min(self._keep + 1, MOST_KEEP)
            return self._silence
        self._least = min(self._least, len(self._frames) - 1)
        self._taken += 1
        if self._taken >= WINDOW:
            self._shorten(self._least - self._keep)
            self._calm += 1
            if self._calm % CALM == 0:
                self._keep = max(self._keep - 1, KEEP)
            self._least, self._taken = LIMIT, 0
        # The playback thread may have pushed the last frame out of the bound only, never emptied it.
        return self._frames.popleft()

    def resync(self) -> None:
        """Forget what piled up while the microphone was not read: the same time was lost there."""
        self._shorten(len(self._frames) - self._keep)
        self._least, self._taken = LIMIT, 0

    def _shorten(self, excess: int) -> None:
        for _ in range(excess):
            self._frames.popleft()
            self.slips += 1
