"""Adaptive playout: RTP packets go in as they come, 10 ms of sound come out at each pull.

`push` may be called from another thread than `pull`: it only appends to a bounded queue, and everything
else happens in `pull`. Time is the sound card's: the number of samples pulled. The one rule: every pull
gives exactly 480 samples, whatever came or did not come.

The position is held as one number, the offset: card time of a sample minus its RTP timestamp. Too large
an offset is accelerated away, too small a one expanded, period by period (stretch.py); the wanted offset is
the estimator's (jitter.py).

A wake comes every 10 ms, and whatever ran in between has emptied the caches: what counts is how much
different code and data one pull touches. So the usual pull is a handful of comparisons and a slice, and
sound is bytes (s16le) until there is something to calculate: a single array operation costs a third of
decoding a frame.
"""

from __future__ import annotations

from collections import deque

from voicemeet_edge.records import dataclass
from voicemeet_edge.voice import stretch
from voicemeet_edge.voice.comfort import ComfortNoise
from voicemeet_edge.voice.format import (
    FRAME_SAMPLES,
    MS,
    PERIOD_BYTES,
    PERIOD_S,
    PERIOD_SAMPLES,
    SAMPLE_RATE,
    Samples,
)
from voicemeet_edge.voice.jitter import DelayEstimator, FrameStore, OpusFrame
from voicemeet_edge.voice.opus import MAX_PACKET_SAMPLES, OpusDecoder, OpusError, parse_packet, samples_of
from voicemeet_edge.voice.packet import RtpAudio
from voicemeet_edge.voice.red import RedError, unpack

INBOX_PACKETS = 64  # packets between two pulls, 1.28 s of sound; a stalled card loses the oldest
GUARD_S = 0.0025  # s; a packet closer than this before a pull counts as the next pull's: clocks drift
START_OFFSET = 20 * MS  # samples above the first packet's relative delay; the estimator corrects it soon
SLACK = 5 * MS  # samples above the target that are left alone: every squeeze is a small harm
URGENT = 60 * MS  # samples from the target beyond which any period is taken, similar or not
JUMP = 200 * MS  # samples above the target at which sound is skipped instead of accelerated
MIN_SIMILARITY = 0.85  # below, taking a period out or in would be heard
CHANGE_PAUSE = 60 * MS  # samples between two changes of tempo
STALL_S = 0.060  # s between two pulls after which the card is taken to have stood still
LATE_RUN = 160 * MS  # samples in a row that came too late: the path got longer, follow at once
LATE_SPAN = 100 * MS  # samples over which they must have come; all at once they are an outage's queue
FAR = SAMPLE_RATE  # samples, 1 s; a packet this far ahead of the clock is a jump of the timestamps
FAR_RUN = 3  # such packets in a row before the jump is believed
FADE_AFTER = 100 * MS  # samples of concealment before comfort noise takes over
SOFT_JOIN = 5 * MS  # samples of cross-fade where sound comes back over concealment
DTX_BYTES = 2  # an Opus packet this short says: silence until the next (RFC 7587 §3.1.3)
HISTORY = 1_024  # sequence numbers remembered, 20 s, to tell a duplicate


@dataclass(slots=True)
class PlayoutStats:
    """How often each decision was taken; samples are at 48 kHz."""

    received: int = 0
    duplicate: int = 0
    late: int = 0
    broken: int = 0
    overflow: int = 0
    decoded: int = 0
    from_copy: int = 0
    from_fec: int = 0
    concealed_frames: int = 0
    concealed_samples: int = 0
    comfort_samples: int = 0
    quiet_samples: int = 0
    held_samples: int = 0
    accelerated: int = 0
    accelerated_samples: int = 0
    expanded: int = 0
    expanded_samples: int = 0
    skipped_samples: int = 0
    resyncs: int = 0
    pulled_samples: int = 0
    offset_samples: int = 0
    """Present playout offset above the earliest packet of the window: the delay we add."""
    target_samples: int = 0
    """The same for the wanted offset."""


class Playout:
    """One receiving stream, from RTP packets to the loudspeaker's periods."""

    def __init__(self) -> None:
        self._counts = PlayoutStats()
        self._inbox: deque[tuple[RtpAudio, float]] = deque(maxlen=INBOX_PACKETS)
        self._decoder = OpusDecoder()
        self._store = FrameStore()
        self._delay = DelayEstimator()
        self._comfort = ComfortNoise()
        self._gain = 1.0
        self._buffer = b""  # s16le
        self._soft = 0  # samples at the buffer's end that are concealment and may be replaced
        self._next = 0  # unwrapped timestamp that follows the buffer
        self._played = 0  # card time, in samples
        self._stood = 0  # samples of it that were never pulled: the card stood still
        self._offset = 0  # card time of the next sample to be heard minus its timestamp, at the last pull
        self._last_pull: float | None = None
        self._ssrc: int | None = None
        self._former_ssrc: int | None = None
        self._newest = 0  # unwrapped timestamp of the newest packet
        self._started = False
        self._sequences: list[int | None] = [None] * HISTORY
        self._late_run = 0
        self._late_since = 0
        self._far_run = 0
        self._oldest_copy = 0  # how far back the copies in packets go, in samples
        self._concealed = 0  # samples concealed in a row
        self._quiet = False  # nothing is to be expected now: before the first frame, or DTX
        self._pause_until = 0  # card time
        self._packets_are_taken = True  # packets were taken in for the coming pull
        self._unfed: list[float] = []  # times of the last pulls, for which they were not

    @property
    def stats(self) -> PlayoutStats:
        """Every decision so far; always the same object, brought up to date when it is asked for."""
        counts, base, target = self._counts, self._delay.base, self._delay.target
        counts.pulled_samples = self._played - self._stood
        if base is not None and target is not None:
            counts.offset_samples = self._offset - base
            counts.target_samples = target - base
        return counts

    # --- from the network -----------------------------------------------------------------------

    def push(self, packet: RtpAudio, now: float) -> None:
        """Take a packet in; `now` is the monotonic time in seconds. Never blocks, never raises."""
        if len(self._inbox) == INBOX_PACKETS:
            self._counts.overflow += 1
        self._inbox.append((packet, min(packet.arrival, now)))

    def wants_packets(self) -> bool:
        """Say whether the coming pull can use packets; if not, let them lie until the one after.

        Those that lay there by then count as taken in now. Optional; in the thread that pulls.
        """
        self._packets_are_taken = len(self._buffer) < PERIOD_BYTES or self._soft > 0 or not self._started
        return self._packets_are_taken

    def _drain(self, now: float, stalled: bool) -> None:
        for _ in range(INBOX_PACKETS):
            if not self._inbox:
                return
            packet, arrival = self._inbox.popleft()
            wait = 0 if arrival <= now - GUARD_S else PERIOD_SAMPLES
            for at in self._unfed:
                if arrival <= at - GUARD_S:
                    wait -= PERIOD_SAMPLES
            if not self._played:
                # Nobody asked when it came. Who pulls from now on would have had it so much earlier.
                wait -= max(int((now - GUARD_S - arrival) / PERIOD_S), 0) * PERIOD_SAMPLES
            self._accept(packet, self._played + wait, not stalled)

    def _accept(self, packet: RtpAudio, card_time: int, measured: bool) -> None:
        sequence, timestamp, ssrc, payload, _, red = packet
        self._counts.received += 1
        if ssrc != self._ssrc:
            if ssrc == self._former_ssrc and self._store:
                self._counts.late += 1  # a straggler of the sender that started afresh
                return
            self._new_sender(packet)
        # RFC 3550 §5.1: timestamps wrap, so their difference is read as a signed 32-bit number.
        timestamp = self._newest + (timestamp - self._newest + 0x80000000 & 0xFFFFFFFF) - 0x80000000
        place = sequence % HISTORY
        if self._sequences[place] == timestamp or self._sequences[place - 1] == timestamp:
            self._counts.duplicate += 1  # the same again, or the second of a pair sent to measure the line
            return
        self._sequences[place] = timestamp
        if self._started and measured:
            ahead = self._played + (len(self._buffer) >> 1) - self._next - card_time + timestamp
            if (self._far_run or not -FAR < ahead < FAR) and self._is_far(ahead, timestamp):
                return
        if red and payload and not payload[0] & 0x80:
            red, payload = False, payload[1:]  # RFC 2198 §3: no copies, as on every clean path
        if red:
            self._unwrap(payload, timestamp, card_time, measured)
            return
        if timestamp > self._newest:
            self._newest = timestamp
        self._take(payload, timestamp, card_time, measured, False)

    def _unwrap(self, payload: bytes, timestamp: int, card_time: int, measured: bool) -> None:
        """Take a packet with copies apart (RFC 2198)."""
        try:
            blocks = unpack(payload)
        except RedError:
            self._counts.broken += 1
            return
        self._newest = max(self._newest, timestamp)
        if blocks[0].offset > self._oldest_copy:
            self._delay.expect_copies()
        self._oldest_copy = blocks[0].offset
        for _type, offset, frame in reversed(blocks):
            self._take(frame, timestamp - offset, card_time, measured, offset != 0)

    def _take(self, payload: bytes, timestamp: int, card_time: int, measured: bool, copy: bool) -> None:
        """Put one frame into the store and note when it could first be played."""
        if not payload:
            return  # browsers send empty copies when they have none
        try:
            info = parse_packet(payload)
        except OpusError:
            self._counts.broken += 1
            return
        relative_delay = card_time - timestamp
        samples = info.frame_samples * info.frames
        if measured:
            self._delay.measure(timestamp, relative_delay, samples)
            if info.has_fec and not copy:
                self._delay.measure(timestamp - samples, relative_delay + samples, samples)
        if not self._started:
            self._start(timestamp, relative_delay)
        elif timestamp + samples <= self._next - self._soft:
            if not copy:
                self._counts.late += 1
                self._follow_late(relative_delay, card_time, samples)
            return
        elif not copy:
            self._late_run = 0
        self._store.put(OpusFrame(timestamp, samples, payload, info.has_fec, copy))

    def _is_far(self, ahead: int, timestamp: int) -> bool:
        """Drop packets far from the clock, unless several agree: then the sender's clock jumped."""
        if -FAR < ahead < FAR:
            self._far_run = 0
            return False
        self._far_run += 1
        if self._far_run < FAR_RUN:
            self._counts.late += 1
            return True
        self._far_run = 0
        self._newest = timestamp
        self._resync()
        return False

    def _follow_late(self, relative_delay: int, card_time: int, samples: int) -> None:
        """Follow a path that got longer for good: every packet of a run came too late."""
        if card_time < 0:
            return  # they came before anybody listened
        if not self._late_run:
            self._late_since = card_time
        self._late_run += samples
        if self._late_run < LATE_RUN or card_time - self._late_since < LATE_SPAN:
            return
        self._late_run = 0
        self._delay.rebase()
        self._move_to(relative_delay + START_OFFSET)
        self._counts.resyncs += 1

    def _new_sender(self, packet: RtpAudio) -> None:
        if self._ssrc is not None:
            self._resync()
            self._sequences = [None] * HISTORY
        self._former_ssrc, self._ssrc = self._ssrc, packet.ssrc
        self._newest = packet.timestamp

    def _resync(self) -> None:
        """Start again at the next packet; what is in the buffer still plays."""
        self._counts.resyncs += 1
        self._store.clear()
        self._delay.reset()
        self._decoder.reset()
        self._started = False

    # --- the clock ------------------------------------------------------------------------------

    def _present_offset(self) -> int:
        """Card time of the next sample to be heard minus its timestamp."""
        return self._played + self._buffered() - self._next

    def _buffered(self) -> int:
        return len(self._buffer) >> 1

    def _start(self, timestamp: int, relative_delay: int) -> None:
        self._started = True
        self._quiet = True
        self._move_to(relative_delay + START_OFFSET, timestamp)

    def _move_to(self, offset: int, floor: int | None = None) -> None:
        """Let the buffer be followed by whatever gives this offset, in whole 2.5 ms."""
        wanted = self._played + self._buffered() - offset
        if floor is not None:
            wanted = floor - (floor - wanted) // 120 * 120
        else:
            wanted = self._next - (self._next - wanted) // 120 * 120
        self._next = wanted
        self._soft = 0

    def pull(self, now: float) -> Samples:
        """Return the next 480 samples, read-only; call it each time the sound card takes 10 ms."""
        return samples_of(self.pull_pcm(now))

    def pull_pcm(self, now: float, gain: float = 1.0) -> bytes:
        """Return the next 480 samples as s16le, `gain` times as loud; instead of `pull`."""
        stalled = False
        if self._last_pull is not None and now - self._last_pull > STALL_S:
            stalled = True
            self._stall(int((now - self._last_pull) * SAMPLE_RATE))
        self._last_pull = now
        if gain != self._gain:
            self._set_gain(gain)
        woken = bool(self._inbox)
        if woken:
            self._drain(now, stalled)
        if not self._packets_are_taken:
            self._unfed.append(now)
            self._packets_are_taken = True  # unless it is asked again
        elif self._unfed:
            self._unfed.clear()
        if self._started:
            if self._soft:
                self._rejoin()
            target = self._delay.target
            if target is not None:
                short = target - (self._played + (len(self._buffer) >> 1) - self._next)
                if not -SLACK <= short <= 0:
                    self._adapt(short)
        if len(self._buffer) < PERIOD_BYTES:
            self._fill()
        if woken and len(self._buffer) < 2 * PERIOD_BYTES and self._started and not self._soft:
            # The next pull would decode this frame, with caches that are cold again by then.
            frame = self._store.take(self._next)
            if frame is not None:
                self._play(frame)
        buffer = self._buffer
        self._buffer = rest = buffer[PERIOD_BYTES:]
        left = len(rest) >> 1
        if self._soft > left:
            self._soft = left
        self._played += PERIOD_SAMPLES
        self._offset = self._played + left - self._next
        return buffer[:PERIOD_BYTES]

    def _fill(self) -> None:
        """Have at least a period in the buffer."""
        # Each round adds at least 2.5 ms, or consumes a frame of a bounded store.
        for _ in range(200):
            self._produce()
            if len(self._buffer) >= PERIOD_BYTES:
                return
        self._buffer = self._buffer.ljust(PERIOD_BYTES, b"\0")

    def _set_gain(self, gain: float) -> None:
        """Let libopus multiply: there it costs nothing, and what is in the buffer is soon played."""
        self._gain = self._comfort.gain = gain
        self._decoder.set_gain(gain)

    def _stall(self, gap: int) -> None:
        """The card stood still, or only asked late and will catch up: forget where the frames lie."""
        gap = gap // PERIOD_SAMPLES * PERIOD_SAMPLES
        self._played += gap
        self._stood += gap
        self._delay.rebase()
        if self._started and gap > JUMP:
            # No card's buffer is that long: the sound of that time is gone for good.
            self._skip(gap)

    # --- what to play ---------------------------------------------------------------------------

    def _produce(self) -> None:
        """Add sound to the buffer: decode, recover, or conceal."""
        if not self._started:
            known = self._ssrc is not None
            self._buffer += self._comfort.make(PERIOD_SAMPLES).tobytes() if known else bytes(PERIOD_BYTES)
            self._next += PERIOD_SAMPLES
            return
        frame = self._store.take(self._next)
        if frame is None:
            self._store.forget_before(self._next - self._soft)
            frame = self._store.covering(self._next)
        if frame is not None:
            self._play(frame)
            return
        later = self._store.after(self._next)
        gap = later.timestamp - self._next if later is not None else FRAME_SAMPLES
        if later is not None and later.has_fec and gap == later.samples and self._recover(later):
            return
        self._conceal(gap, lost=later is not None)

    def _play(self, frame: OpusFrame) -> None:
        """Decode a frame and join it to the buffer at its place in time."""
        try:
            sound = self._decoder.decode_parsed(frame.payload)
        except OpusError:
            self._counts.broken += 1
            self._store.forget_before(frame.timestamp + frame.samples)
            self._conceal(FRAME_SAMPLES, lost=True)
            return
        self._counts.decoded += 1
        self._counts.from_copy += frame.copy
        self._quiet = len(frame.payload) <= DTX_BYTES
        if not self._quiet:
            self._comfort.learn(sound)
        if frame.timestamp == self._next and not self._soft:
            self._buffer += sound  # the usual case, and all that `_place` would do
            self._next += len(sound) >> 1
            self._concealed = 0
        else:
            self._place(samples_of(sound), frame.timestamp)
        if self._store:
            self._store.forget_before(self._next)

    def _recover(self, later: OpusFrame) -> bool:
        """Decode the frame before `later` from the FEC inside it."""
        try:
            sound = self._decoder.recover(later.payload, later.samples)
        except OpusError:
            return False
        self._counts.from_fec += 1
        self._place(sound, self._next)
        return True

    def _place(self, sound: Samples, timestamp: int) -> None:
        """Append sound that starts at `timestamp`; its past part replaces concealment, or is cut."""
        overlap = min(max(self._next - timestamp, 0), len(sound))
        soft = min(overlap, self._soft)
        sound = sound[overlap - soft :]
        if soft:
            fade = min(SOFT_JOIN, soft)
            start = self._buffered() - soft
            old = samples_of(self._buffer)[start : start + fade]
            joined = stretch.cross_fade(old, sound[:fade])
            self._buffer = self._buffer[: start * 2] + joined.tobytes() + sound[fade:].tobytes()
        else:
            self._buffer += sound.tobytes()
        self._next += len(sound) - soft
        self._soft = 0
        self._concealed = 0

    def _rejoin(self) -> None:
        """A frame came for the concealment that is not heard yet: put the real sound there."""
        frame = self._store.covering(self._next - self._soft)
        if frame is not None and frame.timestamp + frame.samples >= self._next:
            self._play(frame)

    def _conceal(self, gap: int, lost: bool) -> None:
        """Fill up to a frame of the gap, and use the moment to move the delay unheard."""
        short = self._shortfall()
        count = max(120, min(gap, FRAME_SAMPLES) // 120 * 120)
        if self._quiet:
            self._counts.quiet_samples += count
        elif self._concealed < FADE_AFTER:
            self._counts.concealed_frames += 1
        held = 0
        if short >= 5 * MS and not self._quiet and self._concealed < FADE_AFTER:
            # Too little delay: let concealment pass without time passing for the stream.
            count = PERIOD_SAMPLES
            held = min(PERIOD_SAMPLES, -(-short // 120) * 120)
            self._counts.held_samples += held
        if not self._quiet:
            self._counts.concealed_samples += count
        self._buffer += self._filler(count).tobytes()
        self._next += count - held
        self._soft = 0 if held or lost else count
        self._concealed += count

    def _filler(self, count: int) -> Samples:
        """Continue the sound by the decoder's own concealment, then by comfort noise."""
        if self._concealed < FADE_AFTER or self._quiet:
            return self._decoder.conceal(count)
        noise = self._comfort.make(count)
        self._counts.comfort_samples += count
        if self._concealed < FADE_AFTER + FRAME_SAMPLES:
            return stretch.cross_fade(self._decoder.conceal(count), noise)
        return noise

    # --- delay ----------------------------------------------------------------------------------

    def _shortfall(self) -> int:
        """Samples by which the offset is below the target; negative when above."""
        target = self._delay.target
        return 0 if target is None else target - self._present_offset()

    def _adapt(self, short: int) -> None:
        """Move the offset towards the target by one period of the waveform, when it can be unheard."""
        if short < -JUMP:
            self._skip(-short)
            return
        if self._played < self._pause_until or self._concealed:
            return
        self._decode_ahead()
        longest = stretch.MAX_PERIOD if short > 0 else min(stretch.MAX_PERIOD, -short)
        sound = samples_of(self._buffer)
        hard = len(sound) - self._soft
        period = stretch.find_pitch(sound[:hard], longest, stretch.QUIET_RMS * self._gain)
        if period is None or (period.similarity < MIN_SIMILARITY and abs(short) < URGENT):
            return
        if short > 0:
            sound = stretch.preemptive_expand(sound, period.samples)
            self._counts.expanded += 1
            self._counts.expanded_samples += period.samples
        else:
            sound = stretch.accelerate(sound, period.samples)
            self._counts.accelerated += 1
            self._counts.accelerated_samples += period.samples
        self._buffer = sound.tobytes()
        self._pause_until = self._played + CHANGE_PAUSE

    def _decode_ahead(self) -> None:
        """Decode frames that are here in order until the search of a period sees enough."""
        while self._buffered() < stretch.NEEDED:
            frame = self._store.covering(self._next)
            if frame is None or self._soft:
                return
            before = self._buffered()
            self._play(frame)
            if self._buffered() <= before or self._buffered() > MAX_PACKET_SAMPLES:
                return

    def _skip(self, surplus: int) -> None:
        """Far too much delay: drop sound at once, joined by a cross-fade."""
        self._store.forget_before(self._next + surplus)
        self._counts.skipped_samples += surplus
        self._next += surplus // 120 * 120
        self._soft = 0
        self._pause_until = self._played + CHANGE_PAUSE
