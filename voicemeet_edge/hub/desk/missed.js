// Calls that rang here and were not answered. Rule: no history: this page's memory only, how many and when the last,
// which whoever sat here would have heard; gone when seen, at the next answer, off duty, and after a working day.

const KEPT_MS = 8 * 3_600_000;
const NOT_MISSED = new Set(['declined', 'answered_elsewhere', 'shutdown', 'hung_up', 'reported']);

export class Missed {
  constructor() {
    this.calls = []; // {at, name}
  }

  /** A call ended; returns whether it was missed. */
  note({ rang, answered, reason, byPeer, name }, now = Date.now()) {
    if (answered) this.calls = [];
    if (!rang || answered || (NOT_MISSED.has(reason) && !byPeer) || reason === 'answered_elsewhere') return false;
    this.calls.push({ at: now, name: name ?? null });
    return true;
  }

  /** {count, at, name} of what is left, or null. */
  summary(now = Date.now()) {
    this.calls = this.calls.filter(({ at }) => now - at < KEPT_MS);
    const last = this.calls.at(-1);
    return last ? { count: this.calls.length, ...last } : null;
  }

  clear() {
    this.calls = [];
  }
}
