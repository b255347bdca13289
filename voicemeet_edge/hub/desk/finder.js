// Finding a partner: the verb `match`, asked again and again, made faster by a push on `wait:<ticket>`.
// Rule: whoever stops looking says so with `leave`.

import { makeProof } from './admission.js';
import { backoff, pause } from './clock.js';
import { newTicket } from './verbs.js';

const REFUSED_MS = 30_000; // a refusal that waiting may heal (a risk score that decays, a full pool)
const NOT_ADMITTED_MS = 60_000; // a refusal that somebody may heal who makes a pass meanwhile
const WAIT_TOKEN_USED_MS = 300_000; // half of a wait token's life; a hosted backend asks its database at each
/** What a pool refuses who has no pass, no good one, or another key. */
export const NOT_ADMITTED = ['pass_needed', 'pass_refused', 'proof_needed', 'proof_refused'];

export class Finder {
  /** desk: {realtime, verbs, pool, role, pass, keys, onReachable(reachable, code), onTold({callers, doors})}. */
  constructor(desk) {
    this.desk = desk;
    this.deviceToken = null;
    this.stopping = null;
    this.state = 'free'; // or busy, or away: found by nobody, and told how many wait
    this.searching = Promise.resolve();
  }

  /** The match, or null when stop() was called. One search after the other: a device has one. */
  find() {
    this.stopping?.abort();
    const stopping = new AbortController();
    this.stopping = stopping;
    const search = this.searching.then(() => (stopping.signal.aborted ? null : this.search(stopping.signal)));
    this.searching = search.catch(() => {});
    return search;
  }

  /** Say in which state this desk is now, for the search that goes on and the ones to come. */
  become(state) {
    if (state === this.state) return;
    this.state = state;
    this.hint();
  }

  async search(signal) {
    this.ticket = newTicket();
    let waits = backoff();
    try {
      while (!signal.aborted) {
        try {
          const reply = await this.ask();
          waits = backoff();
          if (signal.aborted) break;
          // The answer came over another connection: the socket, on which a call begins, proves itself too.
          this.desk.realtime.check();
          this.desk.onReachable(true, null);
          if (reply.status === 'matched') return reply;
          this.desk.onTold?.(reply);
          this.listen(reply.wait_token);
          this.wait = pause((reply.poll_after_s || 3) * (850 + Math.random() * 300), signal);
        } catch (error) {
          if (signal.aborted) break;
          this.desk.onReachable(error.status !== 0, error.code);
          const refusedMs = NOT_ADMITTED.includes(error.code) ? NOT_ADMITTED_MS : REFUSED_MS;
          const retryMs = error.retryable === false ? refusedMs : (error.retryAfterS ?? 0) * 1000;
          this.wait = pause(Math.max(retryMs, waits.next().value), signal);
        }
        await this.wait;
      }
      return null;
    } finally {
      this.channel?.leave();
      this.channel = null;
      if (signal.aborted) this.leave();
    }
  }

  ask() {
    const { pool, role } = this.desk;
    const state = role === 'answerer' && this.state !== 'free' ? { state: this.state } : {};
    return this.match({ ticket: this.ticket, pool, role, ...state });
  }

  /** A call to one door of the list; rejects with `door_away` when it is not there any more. */
  askDoor(door) {
    const { pool, role } = this.desk;
    return this.match({ ticket: newTicket(), pool, role, door });
  }

  /** The doors of this pool that are on line: [{door, label}]. */
  async doors() {
    if (!this.deviceToken) await this.openSession();
    const { doors } = await this.desk.verbs.ask('doors', { pool: this.desk.pool }, this.deviceToken);
    return doors;
  }

  async match(wanted) {
    const { verbs } = this.desk;
    if (!this.deviceToken || performance.now() > this.deviceTokenEnd) await this.openSession();
    const proof = await makeProof(this.desk.keys[0]?.key, this.deviceToken, wanted);
    try {
      return await verbs.ask('match', { ...wanted, proof }, this.deviceToken);
    } catch (error) {
      // A token is made with a pass: another pass needs another token.
      if (error.status === 401 || NOT_ADMITTED.includes(error.code)) this.deviceToken = null;
      throw error;
    }
  }

  async openSession() {
    const old = this.deviceToken;
    this.deviceToken = null; // a token that is refused is not offered twice
    const session = await this.desk.verbs.ask('session', { pass: this.desk.pass ?? undefined }, old);
    this.deviceToken = session.device_token;
    // Renewed at nine tenths of its life, by a clock that nobody sets.
    this.deviceTokenEnd = performance.now() + session.expires_in_s * 900;
  }

  listen(token) {
    if (!this.channel) {
      this.channel = this.desk.realtime.channel(`wait:${this.ticket}`, token, {
        onBroadcast: (event) => event === 'matched' && this.wait?.wake(),
      });
    } else if (performance.now() - this.tokenTakenAt < WAIT_TOKEN_USED_MS) {
      return;
    } else {
      this.channel.setToken(token);
    }
    this.tokenTakenAt = performance.now();
  }

  leave({ keepalive = false } = {}) {
    if (!this.ticket) return;
    const { ticket } = this;
    this.ticket = null;
    this.desk.verbs.ask('leave', { ticket }, this.deviceToken, { keepalive }).catch(() => {});
  }

  /** Look at once: the network came back. */
  hint() {
    this.wait?.wake();
  }

  stop() {
    this.stopping?.abort();
  }
}
