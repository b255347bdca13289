"""What is known about the network: which frames are here, how late they come, how long to wait.

Delay is counted in samples of the sound card's own clock, so that network jitter and the drift between
the two sound cards are one and the same thing. The one rule: all memory here is bounded by a constant.

Plain integers, lists and dicts: this runs once for each packet, after whatever ran in between has emptied
the caches, and then one array operation costs as much as a page of this.
"""

from __future__ import annotations

from typing import NamedTuple

from voicemeet_edge.voice.format import FRAME_SAMPLES, MS, PERIOD_SAMPLES

WINDOW_FRAMES = 1_000  # frames, 20 s: long enough to see 1 % loss ten times, short enough to forget
SHIFT_FRAMES = 100  # frames, 2 s: when all of these came earlier than any before, the path got shorter
SHIFT_PERCENT = 25  # %, of the older ones: the first of the shorter path overtook some of them
DRAINED_FRAMES = 60  # frames, 1.2 s without any so late, after which a queue counts as drained
DRAINED_RUN = 8  # frames in a row that came late make a queue; single losses and bursts make fewer
DRAINED_LEAST = 15 * MS  # by which the delay could be less; for less it is not worth a look
FIRST_FRAMES = 10  # frames, 0.2 s: both ends still load what they need, and so they come late
FIRST_SEEN = 25  # frames, 0.5 s, after which those are forgotten; one of them would count for 8 s
BEGINNING_FRAMES = 350  # frames, 7 s: the sender looks for the line's rate, each queue of that goes
AGAIN_FRAMES = 750  # frames, 15 s, within which a second queue shows that they come again and again
CONCEALMENT_COST = 4_000.0 * MS  # samples of delay that one concealed share of 1.0 is worth: 1 % = 40 ms
DOWN_MARGIN = 8 * MS  # cost that a shorter delay must save: chance must not move it to and fro
DOWN_SHARE = 0.1  # and this share of the way, since each squeeze on it is a small harm too
LATEST = 400 * MS  # no frame is waited for longer than this beyond the earliest one
SHAPE_FRAMES = 50  # frames, 1 s: until then a rebased estimate keeps the spread it had
UPDATE_FRAMES = 5  # frames between two searches of the best target
MAX_FRAMES = 64  # frames kept, 1.28 s of 20 ms: three times what LATEST can need
SLOT = 120  # samples, 2.5 ms: no Opus frame is shorter (RFC 6716 §2), so each has a slot of its own
MAX_SEEN = 2_048  # slots in which a frame is remembered as measured, 5 s


class OpusFrame(NamedTuple):
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
        self._frames: dict[int, OpusFrame] = {}

    def __len__(self) -> int:
        return len(self._frames)

    def put(self, frame: OpusFrame) -> bool:
        """Keep a frame; returns False when it was there already."""
        known = self._frames.get(frame.timestamp)
        if known is not None:
            # The original may carry FEC of its own; the copy of it is the same bytes.
            return False
        if len(self._frames) >= MAX_FRAMES:
            del self._frames[min(self._frames)]
        self._frames[frame.timestamp] = frame
        return True

    def take(self, timestamp: int) -> OpusFrame | None:
        """Return the frame that starts at this moment and keep it no longer."""
        return self._frames.pop(timestamp, None)

    def covering(self, timestamp: int) -> OpusFrame | None:
        """Return the frame that holds this moment."""
        exact = self._frames.get(timestamp)
        if exact is not None:
            return exact
        for frame in self._frames.values():
            if frame.timestamp < timestamp < frame.timestamp + frame.samples:
                return frame
        return None

    def after(self, timestamp: int) -> OpusFrame | None:
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

    A frame's relative delay is the card time at which it could first be decoded, from its own packet or from
    redundancy in a later one, minus its timestamp. The target weighs delay against concealment:
    the relative delay d with the least d + CONCEALMENT_COST * share of frames later than d. So waiting for
    the packet that carries the redundancy happens exactly when it pays.
    """

    def __init__(self) -> None:
        # Kept as if every packet were 20 ms long: a longer one waits for its own sound to be over, and that
        # is known at once when packets change their length, and no jitter.
        self._target: int | None = None
        self._base: int | None = None
        self._longer = 0  # samples by which packets are now longer than 20 ms
        self._window = [0] * WINDOW_FRAMES
        # The same values and how often each is in the window. Card time goes in periods and timestamps in
        # frames, so there are few different ones.
        self._often: dict[int, int] = {}
        self._count = 0
        self._next = 0
        self._news = False  # other values are in the window, or others often, than at the last choice
        self._since_update = 0
        self._spread = 0
        self._age = 0  # frames noted in all
        self._has_first = True  # the sender's first frames are in the window
        self._forgot_at = -AGAIN_FRAMES
        self._believe_until = 0
        self._flush = False
        self._seen: list[int | None] = [None] * MAX_SEEN

    @property
    def target(self) -> int | None:
        """Wanted playout offset in samples, None before the first frame."""
        return None if self._target is None else self._target + self._longer

    @property
    def base(self) -> int | None:
        """Least relative delay in the window."""
        return None if self._base is None else self._base + self._longer

    def _recount(self, oldest: int, relative_delay: int) -> None:
        """Count one that is new in the window, and the oldest no more when the window is full."""
        self._news = True
        if self._count < WINDOW_FRAMES:
            self._count += 1
        else:
            self._forget(oldest)
        self._often[relative_delay] = self._often.get(relative_delay, 0) + 1
        if self._base is None or relative_delay < self._base:
            self._base = relative_delay
        elif self._base not in self._often:
            self._base = min(self._often)

    def _forget(self, relative_delay: int) -> None:
        left = self._often[relative_delay] - 1
        if left:
            self._often[relative_delay] = left
        else:
            del self._often[relative_delay]

    def _no_later_than(self, relative_delay: int) -> int:
        """Count the frames of the window that were this late or earlier."""
        return sum(count for late, count in self._often.items() if late <= relative_delay)

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
        self._keep(self._recent())

    def _keep(self, kept: list[int]) -> None:
        """Let these be all that is known, oldest first."""
        self._window[: len(kept)] = kept
        self._count, self._next = len(kept), len(kept) % WINDOW_FRAMES
        self._often.clear()
        for relative_delay in kept:
            self._often[relative_delay] = self._often.get(relative_delay, 0) + 1
        self._base = min(kept)

    def _forget_drained(self, target: int) -> None:
        """Drop the frames that waited in a queue which is gone: they came late one behind the other.

        A queue of ours is drained by sending less and does not come back; kept in mind, its half second
        would hold the delay up for the whole window. A line that does it again is believed.
        """
        first = self._next - DRAINED_FRAMES
        recent = [self._window[place] for place in range(first, self._next)]
        latest = max(recent)
        if latest > target - DRAINED_LEAST or self._age < self._believe_until:
            return
        if latest > max(recent[DRAINED_FRAMES // 2 :]) + DRAINED_LEAST:
            return  # it is still draining
        start = self._next - self._count
        ordered = [self._window[place] for place in range(start, self._next)]
        kept: list[int] = []
        run: list[int] = []
        found = 0
        for relative_delay in ordered:
            if relative_delay > latest:
                run.append(relative_delay)
                continue
            if len(run) >= DRAINED_RUN:
                found += 1
            else:
                kept += run
            run = []
            kept.append(relative_delay)
        if not found:
            return
        if self._age > BEGINNING_FRAMES:
            if self._age - self._forgot_at < AGAIN_FRAMES:
                self._believe_until = self._age + WINDOW_FRAMES
                return
            self._forgot_at = self._age
        self._keep(kept)

    def measure(self, timestamp: int, relative_delay: int, samples: int = FRAME_SAMPLES) -> bool:
        """Note that the frame at `timestamp` could be decoded now; only its first time counts.

        A long frame counts as often as the 20 ms frames it is as long as: what is late costs by its length.
        """
        slot = timestamp // SLOT % MAX_SEEN
        if self._seen[slot] == timestamp:
            return False
        self._seen[slot] = timestamp
        self._longer = samples - FRAME_SAMPLES
        relative_delay -= self._longer
        if self._target is not None and self._base is not None:
            # Frames that a link kept back during an outage and now hands over all at once are no jitter.
            self._flush = relative_delay > (self._target if self._flush else self._base + LATEST)
            if self._flush:
                return False
        for _ in range(max(samples // FRAME_SAMPLES, 1)):
            self._note(relative_delay)
        # While little is known every frame says much; later a look every 100 ms is enough, if there is news.
        if self._since_update >= UPDATE_FRAMES or self._count < SHAPE_FRAMES:
            self._since_update = 0
            if self._news:
                self._news = False
                self._target = self._choose()
        elif self._target is not None and relative_delay > self._target:
            self._since_update = UPDATE_FRAMES
        return True

    def _note(self, relative_delay: int) -> None:
        oldest = self._window[self._next]
        self._window[self._next] = relative_delay
        self._next = (self._next + 1) % WINDOW_FRAMES
        if self._count < WINDOW_FRAMES or oldest != relative_delay:
            self._recount(oldest, relative_delay)
        self._since_update += 1
        self._age += 1
        if self._has_first and self._count == FIRST_SEEN:
            self._has_first = False
            later = self._window[FIRST_FRAMES:FIRST_SEEN]
            if max(later) - min(later) <= PERIOD_SAMPLES:  # else the path itself is like that
                self._keep(later)

    def _choose(self) -> int:
        if self._is_shorter_path():
            self._forget_longer_path()
        elif self._target is not None and self._count > DRAINED_FRAMES:
            self._forget_drained(self._target)
        assert self._base is not None
        base, target = self._base, self._target
        price = CONCEALMENT_COST / self._count  # of concealing one frame of the window
        later = self._count
        best, least, held = base, float("inf"), self._count
        for relative_delay in sorted(self._often):
            if relative_delay > base + LATEST:
                break
            later -= self._often[relative_delay]
            if target is not None and relative_delay <= target:
                held = later
            if relative_delay + later * price < least:
                best, least = relative_delay, relative_delay + later * price
        if target is not None and base <= target:
            way = target - best
            margin = DOWN_MARGIN + DOWN_SHARE * way if way > 0 else 0
            if target + held * price <= least + margin:
                best = target
        if self._count < SHAPE_FRAMES:
            best = max(best, base + self._spread)
        return best

    def expect_copies(self) -> None:
        """Redundancy of another kind comes from now on: how late frames can be had before it, says little."""
        if self._count > SHIFT_FRAMES:
            self._keep(self._recent())

    def rebase(self) -> None:
        """The clock or the path jumped: forget where the frames lie, keep how far they spread."""
        if self._base is not None and self._target is not None:
            self._spread = min(max(self._target - self._base, 0), LATEST)
        self._count = self._next = 0
        self._often.clear()
        self._base = None
        self._flush = False

    def reset(self) -> None:
        """A new sender: forget everything."""
        self._count = self._next = self._since_update = self._spread = 0
        self._often.clear()
        self._base = None
        self._flush = False
        self._seen = [None] * MAX_SEEN
        self._longer = 0
        self._target = None
        self._has_first = True
