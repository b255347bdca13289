"""What is known about the network: which frames are here, how late they come, how long to wait.

Delay is counted in samples of the sound card's own clock, so that network jitter and the drift between
the two sound cards are one and the same thing. The one rule: all memory here is bounded by a constant.

Plain integers, lists and dicts: this runs once for each packet, after whatever ran in between has emptied
the caches, and then one array operation costs as much as a page of this.
"""

from __future__ import annotations

from typing import NamedTuple

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
SLOT = 120  # samples, 2.5 ms: no Opus frame is shorter (RFC 6716 §2), so each has a slot of its own
MAX_SEEN = 2_048  # slots in which a frame is remembered as measured, 5 s


class Frame(NamedTuple):
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

    def take(self, timestamp: int) -> Frame | None:
        """Return the frame that starts at this moment and keep it no longer."""
        return self._frames.pop(timestamp, None)

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
        if not self._frames:
            return 0
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
        self.target: int | None = None
        """Wanted playout offset in samples, None before the first frame."""
        self.base: int | None = None
        """Least lateness in the window."""
        self._window = [0] * WINDOW_FRAMES
        # The same values and how often each is in the window. Card time goes in periods and timestamps in
        # frames, so there are few different ones.
        self._often: dict[int, int] = {}
        self._count = 0
        self._next = 0
        self._news = False  # other values are in the window, or others often, than at the last choice
        self._since_update = 0
        self._spread = 0
        self._flush = False
        self._seen: list[int | None] = [None] * MAX_SEEN

    def _recount(self, oldest: int, lateness: int) -> None:
        """Count a lateness that is new in the window, and the oldest one no more when the window is full."""
        self._news = True
        if self._count < WINDOW_FRAMES:
            self._count += 1
        else:
            self._forget(oldest)
        self._often[lateness] = self._often.get(lateness, 0) + 1
        if self.base is None or lateness < self.base:
            self.base = lateness
        elif self.base not in self._often:
            self.base = min(self._often)

    def _forget(self, lateness: int) -> None:
        left = self._often[lateness] - 1
        if left:
            self._often[lateness] = left
        else:
            del self._often[lateness]

    def _no_later_than(self, lateness: int) -> int:
        """Count the frames of the window that were this late or earlier."""
        return sum(count for late, count in self._often.items() if late <= lateness)

    def _is_shorter_path(self) -> bool:
        """Say whether all recent frames came earlier than most older ones."""
        older = self._count - SHIFT_FRAMES
        if older < SHAPE_FRAMES or len(self._often) == 1:
            return False
        # Of the older ones, this many may be overtaken.
        most = older * SHIFT_PERCENT // 100 + SHIFT_FRAMES
        if self._no_later_than(self._window[self._next - 1]) > most:
            return False  # already the newest is no earlier: nearly always the case, and cheap to see
        return self._no_later_than(max(self._recent())) <= most

    def _recent(self) -> list[int]:
        """Return the last SHIFT_FRAMES, oldest first."""
        first = self._next - SHIFT_FRAMES
        return [self._window[place] for place in range(first, self._next)]

    def _forget_longer_path(self) -> None:
        """Drop what was learnt on a path that is no more."""
        kept = self._recent()
        self._window[:SHIFT_FRAMES] = kept
        self._count = self._next = SHIFT_FRAMES
        self._often.clear()
        for lateness in kept:
            self._often[lateness] = self._often.get(lateness, 0) + 1
        self.base = min(kept)

    def measure(self, timestamp: int, lateness: int) -> bool:
        """Note that the frame at `timestamp` could be decoded now; only its first time counts."""
        slot = timestamp // SLOT % MAX_SEEN
        if self._seen[slot] == timestamp:
            return False
        self._seen[slot] = timestamp
        if self.target is not None and self.base is not None:
            # Frames that a link kept back during an outage and now hands over all at once are no jitter.
            self._flush = lateness > (self.target if self._flush else self.base + LATEST)
            if self._flush:
                return False
        oldest = self._window[self._next]
        self._window[self._next] = lateness
        self._next = (self._next + 1) % WINDOW_FRAMES
        if self._count < WINDOW_FRAMES or oldest != lateness:
            self._recount(oldest, lateness)
        self._since_update += 1
        # While little is known every frame says much; later a look every 100 ms is enough, if there is news.
        if self._since_update >= UPDATE_FRAMES or self._count < SHAPE_FRAMES:
            self._since_update = 0
            if self._news:
                self._news = False
                self.target = self._choose()
        elif self.target is not None and lateness > self.target:
            self._since_update = UPDATE_FRAMES
        return True

    def _choose(self) -> int:
        if self._is_shorter_path():
            self._forget_longer_path()
        assert self.base is not None
        base, target = self.base, self.target
        price = CONCEALMENT_COST / self._count  # of concealing one frame of the window
        later = self._count
        best, least, held = base, float("inf"), self._count
        for lateness in sorted(self._often):
            if lateness > base + LATEST:
                break
            later -= self._often[lateness]
            if target is not None and lateness <= target:
                held = later
            if lateness + later * price < least:
                best, least = lateness, lateness + later * price
        if target is not None and base <= target:
            way = target - best
            margin = DOWN_MARGIN + DOWN_SHARE * way if way > 0 else 0
            if target + held * price <= least + margin:
                best = target
        if self._count < SHAPE_FRAMES:
            best = max(best, base + self._spread)
        return best

    def rebase(self) -> None:
        """The clock or the path jumped: forget where the frames lie, keep how far they spread."""
        if self.base is not None and self.target is not None:
            self._spread = min(max(self.target - self.base, 0), LATEST)
        self._count = self._next = 0
        self._often.clear()
        self.base = None
        self._flush = False

    def reset(self) -> None:
        """A new sender: forget everything."""
        self._count = self._next = self._since_update = self._spread = 0
        self._often.clear()
        self.base = None
        self._flush = False
        self._seen = [None] * MAX_SEEN
        self.target = None
