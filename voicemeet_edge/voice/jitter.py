"""What is known about the network: which frames are here, how late they come, how long to wait.

Delay is counted in samples of the sound card's own clock, so that network jitter and the drift between
the two sound cards are one and the same thing. The one rule: all memory here is bounded by a constant.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

MS = 48  # samples
FRAME = 20 * MS
WINDOW_FRAMES = 1_000  # frames, 20 s: long enough to see 1 % loss ten times, short enough to forget
SHIFT_FRAMES = 100  # frames, 2 s: when all of these came earlier than any before, the path got shorter
SHIFT_PERCENT = 25  # %, of the older ones: the first of the shorter path overtook some of them
CONCEALMENT_COST = 4_000.0 * MS  # samples of delay that one concealed share of 1.0 is worth: 1 % = 40 ms
DOWN_MARGIN = 8 * MS  # cost that a shorter delay must save: chance must not move it to and fro
DOWN_SHARE = 0.1  # and this share of the way, since each squeeze on it is a small harm too
LATEST = 400 * MS  # no frame is waited for longer than this beyond the earliest one
SHAPE_FRAMES = 50  # frames, 1 s: until then a rebased estimate keeps the spread it had
UPDATE_FRAMES = 5  # frames between two searches of the best target
MAX_FRAMES = 64  # frames kept, 1.28 s of 20 ms: three times what LATEST can need
MAX_SEEN = 256  # frames remembered as measured, 5 s

_PLACES = np.arange(WINDOW_FRAMES - 1, -1, -1, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class Frame:
    """One Opus packet in the store; `timestamp` is unwrapped and never wraps again."""

    timestamp: int
    samples: int
    payload: bytes
    has_fec: bool
    copy: bool
    """It came as redundancy in a later packet."""


class FrameStore:
    """The frames received and not yet played, by timestamp; a full store drops the oldest."""

    def __init__(self) -> None:
        self._frames: dict[int, Frame] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: Frame) -> bool:
        """Keep a frame; returns False when it was there already."""
        known = self._frames.get(frame.timestamp)
        if known is not None:
            # The original may carry FEC of its own; the copy of it is the same bytes.
            return False
        if len(self._frames) >= MAX_FRAMES:
            del self._frames[min(self._frames)]
        self._frames[frame.timestamp] = frame
        return True

    def covering(self, timestamp: int) -> Frame | None:
        """Return the frame that holds this moment."""
        exact = self._frames.get(timestamp)
        if exact is not None:
            return exact
        for frame in self._frames.values():
            if frame.timestamp < timestamp < frame.timestamp + frame.samples:
                return frame
        return None

    def after(self, timestamp: int) -> Frame | None:
        """Return the first frame that starts after this moment."""
        later = [start for start in self._frames if start > timestamp]
        return self._frames[min(later)] if later else None

    def forget_before(self, timestamp: int) -> int:
        """Drop the frames that end at or before this moment; returns how many."""
        stale = [start for start, frame in self._frames.items() if start + frame.samples <= timestamp]
        for start in stale:
            del self._frames[start]
        return len(stale)

    def clear(self) -> None:
        """Drop everything."""
        self._frames.clear()


class DelayEstimator:
    """Learn when frames become available and choose the delay that costs least.

    A frame's lateness is the card time at which it could first be decoded, from its own packet or from
    redundancy in a later one, minus its timestamp. The target weighs delay against concealment:
    the lateness d with the least d + CONCEALMENT_COST * share of frames later than d. So waiting for
    the packet that carries the redundancy happens exactly when it pays.
    """

    def __init__(self) -> None:
        self._window: npt.NDArray[np.int64] = np.zeros(WINDOW_FRAMES, dtype=np.int64)
        self._count = 0
        self._next = 0
        self._base: int | None = None  # the least of the window; a search for each frame would cost more
        self._since_update = 0
        self._spread = 0
        self._flush = False
        self._seen: OrderedDict[int, None] = OrderedDict()
        self._target: int | None = None

    @property
    def target(self) -> int | None:
        """Wanted playout offset in samples, None before the first frame."""
        return self._target

    @property
    def base(self) -> int | None:
        """Least lateness in the window."""
        return self._base

    def _values(self) -> npt.NDArray[np.int64]:
        return self._window[: self._count]

    def _remember(self, lateness: int) -> None:
        """Put a lateness into the window in place of the oldest, and keep the least of it known."""
        oldest = int(self._window[self._next]) if self._count == WINDOW_FRAMES else None
        self._window[self._next] = lateness
        self._next = (self._next + 1) % WINDOW_FRAMES
        self._count = min(self._count + 1, WINDOW_FRAMES)
        if self._base is None or lateness <= self._base:
            self._base = lateness
        elif oldest == self._base:
            self._base = int(self._values().min())

    def _is_shorter_path(self, ordered: npt.NDArray[np.int64]) -> bool:
        """Say whether all recent frames came earlier than most older ones; `ordered` is the sorted window."""
        older = self._count - SHIFT_FRAMES
        if older < SHAPE_FRAMES:
            return False
        newest = int(self._window[self._next - 1])
        earlier = older * SHIFT_PERCENT // 100  # of the older ones, as many as may be overtaken
        if newest >= ordered[earlier + SHIFT_FRAMES]:
            return False  # already this one is no earlier: nearly always the case, and cheap to see
        latest = int(self._recent().max())
        return int(np.searchsorted(ordered, latest, side="right")) - SHIFT_FRAMES <= earlier

    def _recent(self) -> npt.NDArray[np.int64]:
        return self._window[np.arange(self._next - SHIFT_FRAMES, self._next) % WINDOW_FRAMES]

    def _forget_longer_path(self) -> None:
        """Drop what was learnt on a path that is no more."""
        kept = self._recent()
        self._window[:SHIFT_FRAMES] = kept
        self._count = self._next = SHIFT_FRAMES
        self._base = int(kept.min())

    def measure(self, timestamp: int, lateness: int) -> bool:
        """Note that the frame at `timestamp` could be decoded now; only its first time counts."""
        if timestamp in self._seen:
            return False
        self._seen[timestamp] = None
        if len(self._seen) > MAX_SEEN:
            self._seen.popitem(last=False)
        if self._is_flush(lateness):
            return False
        self._remember(lateness)
        self._since_update += 1
        # While little is known every frame says much; later a look every 100 ms is enough.
        if self._since_update >= UPDATE_FRAMES or self._count < SHAPE_FRAMES:
            self._since_update = 0
            self._target = self._choose()
        elif self._target is not None and lateness > self._target:
            self._since_update = UPDATE_FRAMES
        return True

    def _is_flush(self, lateness: int) -> bool:
        """Tell frames that a link kept back during an outage and now hands over all at once."""
        if self._target is None or self._base is None:
            return False
        self._flush = lateness > (self._target if self._flush else self._base + LATEST)
        return self._flush

    def _choose(self) -> int:
        late = np.sort(self._values())
        if self._is_shorter_path(late):
            self._forget_longer_path()
            late = np.sort(self._values())
        base = int(late[0])
        if late[-1] > base + LATEST:
            late = late[: int(np.searchsorted(late, base + LATEST, side="right"))]
        # By place in the order: the price of concealing all frames that are later.
        price = _PLACES[len(_PLACES) - self._count :][: len(late)] * (CONCEALMENT_COST / self._count)
        cost = late + price
        best = int(late[int(np.argmin(cost))])
        if self._target is not None and base <= self._target:
            held = int(np.searchsorted(late, self._target, side="right")) - 1
            way = self._target - best
            margin = DOWN_MARGIN + DOWN_SHARE * way if way > 0 else 0
            if cost[held] - late[held] + self._target <= cost.min() + margin:
                best = self._target
        if self._count < SHAPE_FRAMES:
            best = max(best, base + self._spread)
        return best

    def rebase(self) -> None:
        """The clock or the path jumped: forget where the frames lie, keep how far they spread."""
        if self._base is not None and self._target is not None:
            self._spread = min(max(self._target - self._base, 0), LATEST)
        self._count = self._next = 0
        self._base = None
        self._flush = False

    def reset(self) -> None:
        """A new sender: forget everything."""
        self._count = self._next = self._since_update = self._spread = 0
        self._base = None
        self._flush = False
        self._seen.clear()
        self._target = None
