// A desk on duty: what it is connected to, whom it looks for and what the server says of it, until it goes off.
// Rule: it knows nothing of the page, and says when the page may have to show something else.

import { Arrivals } from './arrivals.js';
import { after } from './clock.js';
import { DoorList } from './door_list.js';
import { Finder } from './finder.js';
import { Realtime } from './realtime.js';
import { Verbs } from './verbs.js';

const SETTLE_MS = 3_000; // a healthy server is reached much sooner

export class Duty {
  /**
   * `config`: of the server; `wishes`: {pool, role, pass, keys, policy};
   * `page`: {makeCall(duty, match, onFirst), attend(call), onChange(), onDoors(), onTold({callers, doors})}.
   */
  constructor(config, wishes, page) {
    const socket = new URL(`${config.realtime}/websocket`, location.href);
    socket.protocol = socket.protocol.replace('http', 'ws');
    Object.assign(this, wishes, { page });
    this.wanted = wishes.role === 'answerer'; // it looks for a call
    this.isAway = false; // takes no calls now
    this.busy = false;
    this.reachable = true;
    this.settled = false; // connecting for the first time is no failure yet
    this.accepted = false; // the server knows this desk's ticket
    this.refusal = null; // the server's word for why it does not
    this.closed = false;
    this.verbs = new Verbs(config.verbs, config.apikey);
    this.realtime = new Realtime(socket.href, config.apikey, () => this.changed());
    this.finder = new Finder(this);
    this.doorList = new DoorList(this.finder, this.keys, this.pool, () => page.onDoors());
    const makeCall = (match, onFirst) => page.makeCall(this, match, onFirst);
    this.arrivals = new Arrivals(this.finder, makeCall, () => this.changed());
  }

  begin() {
    this.realtime.connect();
    this.stayAwake();
    after(SETTLE_MS, () => {
      this.settled = true;
      this.changed();
    });
    if (this.wanted) this.look();
    else this.changed();
  }

  /** What the desk is while there is no call: ready only where all that it promises is so. */
  get state() {
    if (!this.reachable || !this.realtime.proven) return this.settled ? 'offline' : 'starting';
    if (this.refusal) return 'refused';
    if (this.role !== 'answerer') return this.wanted ? 'seeking' : 'ready';
    if (!this.accepted) return 'starting';
    return this.isAway ? 'disturb' : 'ready';
  }

  changed() {
    if (!this.closed) this.page.onChange();
  }

  onReachable(yes, code) {
    this.reachable = yes;
    if (yes) this.refusal = code;
    if (yes) this.accepted = !code;
    this.changed();
  }

  onTold(reply) {
    this.doorList.told(reply.doors);
    this.page.onTold(reply);
  }

  /** Keep a tablet's screen on, where the browser can: asleep it does not ring. */
  async stayAwake() {
    if (this.closed || document.visibilityState !== 'visible') return;
    try {
      this.awake = await navigator.wakeLock?.request('screen');
    } catch {
      // Low battery, or not allowed: the desk still works while somebody keeps it awake.
    }
  }

  /** Take no calls, or take them again; in a call the server hears of it afterwards. */
  beAway(yes) {
    this.isAway = yes;
    if (!this.busy) this.finder.become(yes ? 'away' : 'free');
  }

  /** Look for calls, one after the other, until off duty. */
  async look() {
    do {
      const call = await this.next();
      if (!call) break;
      if (this.closed) {
        call.end('shutdown');
        break;
      }
      await this.attend(call);
      this.wanted = this.role === 'answerer' && !this.closed;
    } while (this.wanted);
    this.changed();
  }

  /** The next call, or null when nobody is looked for any more. */
  async next() {
    if (this.role === 'answerer') return this.arrivals.next();
    const match = await this.finder.find();
    const call = match && this.page.makeCall(this, match);
    call?.start();
    return call;
  }

  /** While it talks a desk is found by nobody, and hears how many wait. */
  async attend(call) {
    if (this.role !== 'answerer') return this.page.attend(call);
    this.busy = true;
    this.finder.become('busy');
    const extra = this.finder.find();
    await this.page.attend(call);
    this.finder.stop();
    const match = await extra;
    if (match) this.page.makeCall(this, match).end('busy'); // a backend that does not know of busy desks
    this.busy = false;
    this.beAway(this.isAway);
    this.doorList.refresh();
  }

  /** Look for one call, where it does not look all the time. */
  seek() {
    if (this.wanted) return;
    this.wanted = true;
    this.changed();
    this.look();
  }

  stopSeeking() {
    this.wanted = false;
    this.finder.stop();
    this.changed();
  }

  /** Go off duty: nobody is on the way any more, and nothing is heard of it. */
  close() {
    this.closed = true;
    this.finder.stop();
    this.arrivals.close();
    this.realtime.close();
    this.awake?.release();
  }

  /** The page is going away. */
  endNow() {
    this.arrivals.endNow();
  }
}
