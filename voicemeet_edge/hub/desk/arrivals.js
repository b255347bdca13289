// Who is on the way to this desk. Rule: a match holds nobody up; the first caller that says hello rings, and
// the desk stays in the queue until then.

const MAX_ARRIVING = 4; // calls on their way at once; each has a connection prepared
const UNTOLD = new Set(['peer_absent', 'busy', 'shutdown']); // ends before it rang that nobody here need know
const SILENT_MS = 60_000; // how long a caller that came and said nothing is remembered, for the page

export class Arrivals {
  /** `finder`; `makeCall(match, onCall)`: a call that is not started; `onSilent()`: somebody said nothing. */
  constructor(finder, makeCall, onSilent) {
    Object.assign(this, { finder, makeCall, onSilent });
    this.arriving = new Set();
    this.silent = []; // when callers came and said nothing
    this.closed = false;
  }

  /** The next call that rings, or null when the desk went off duty. */
  next() {
    return new Promise((resolve) => this.search(resolve));
  }

  /** Let a call of our own be the next one; whoever is on the way hears that we are busy. */
  insteadTake(call) {
    this.settle?.(call);
  }

  async search(resolve) {
    let settled = false;
    const settle = (call) => {
      if (settled) return;
      settled = true;
      this.arriving.delete(call);
      this.finder.stop();
      for (const other of this.arriving) other.end('busy');
      resolve(call);
    };
    this.settle = settle;
    while (!settled && !this.closed) {
      const match = await this.finder.find();
      if (!match) break;
      const call = this.makeCall(match, (changed) => changed.phase === 'ringing' && settle(call));
      this.arriving.add(call);
      call.finished.then(() => this.left(call) && settle(call));
      call.start();
      if (settled || this.closed) call.end('busy'); // it came with the one that rings
      if (this.arriving.size >= MAX_ARRIVING) await Promise.race([...this.arriving].map((one) => one.finished));
    }
    if (this.closed) settle(null);
  }

  /** Whether this end is something to tell the person here: not that somebody left, but that keys do not fit. */
  left(call) {
    this.arriving.delete(call);
    if (call.reason === 'peer_absent' && !call.rang) {
      const now = performance.now();
      this.silent = [...this.silent.filter((at) => now - at < SILENT_MS), now];
      this.onSilent();
    }
    return !call.byPeer && !UNTOLD.has(call.reason);
  }

  /** How many callers came and said nothing lately. */
  get silentCount() {
    const now = performance.now();
    return this.silent.filter((at) => now - at < SILENT_MS).length;
  }

  /** Off duty: nobody is on the way any more. */
  close() {
    this.closed = true;
    this.finder.stop();
    for (const call of this.arriving) call.end('shutdown');
  }

  /** The page is going away. */
  endNow() {
    for (const call of this.arriving) call.endNow();
  }
}
