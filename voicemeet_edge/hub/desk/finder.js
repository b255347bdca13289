// Finding a partner: the verb `match`, asked again and again, made faster by a push on `wait:<ticket>`.
// Rule: whoever stops looking says so with `leave`.

import { backoff, pause } from './clock.js';
import { newTicket } from './verbs.js';

const REFUSED_MS = 30_000; // a refusal that waiting may heal (a risk score that decays, a full pool)

export class Finder {
  /** desk: {realtime, verbs, pool, role, onReachable(reachable, code)}. */
  constructor(desk) {
    this.desk = desk;
    this.deviceToken = null;
    this.stopping = null;
  }

  /** The match, or null when stop() was called. */
  async find() {
    this.stopping = new AbortController();
    const { signal } = this.stopping;
    this.ticket = newTicket();
    let waits = backoff();
    try {
      while (!signal.aborted) {
        try {
          const reply = await this.ask();
          waits = backoff();
          if (signal.aborted) break;
          this.desk.onReachable(true, null);
          if (reply.status === 'matched') return reply;
          this.listen(reply.wait_token);
          this.wait = pause((reply.poll_after_s || 3) * (850 + Math.random() * 300), signal);
        } catch (error) {
          if (signal.aborted) break;
          this.desk.onReachable(error.status !== 0, error.code);
          const retryMs = error.retryable === false ? REFUSED_MS : (error.retryAfterS ?? 0) * 1000;
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

  async ask() {
    const { verbs, pool, role } = this.desk;
    if (!this.deviceToken || Date.now() > this.deviceTokenEnd) await this.openSession();
    try {
      return await verbs.ask('match', { ticket: this.ticket, pool, role }, this.deviceToken);
    } catch (error) {
      if (error.status === 401) this.deviceToken = null;
      throw error;
    }
  }

  async openSession() {
    const old = this.deviceToken;
    this.deviceToken = null; // a token that is refused is not offered twice
    const session = await this.desk.verbs.ask('session', {}, old);
    this.deviceToken = session.device_token;
    this.deviceTokenEnd = Date.now() + session.expires_in_s * 900; // renewed at nine tenths of its life
  }

  listen(token) {
    if (!this.channel) {
      this.channel = this.desk.realtime.channel(`wait:${this.ticket}`, token, {
        onBroadcast: (event) => event === 'matched' && this.wait?.wake(),
      });
    } else {
      this.channel.setToken(token);
    }
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
