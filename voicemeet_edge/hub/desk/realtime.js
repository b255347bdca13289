// Supabase Realtime: Phoenix channels, protocol 2.0.0, as a small client that never gives up.
// Rule: a channel wants to be joined until it is left; the socket comes and goes beneath it.
//
// A socket may be dead without a word: a NAT forgot it, the machine slept. So it is asked (check) whenever
// somebody depends on it; while the answer is late a second one is opened, and whichever is first is used.

import { after, backoff, every } from './clock.js';

const HEARTBEAT_MS = 25_000; // the server hangs up after 60 s of silence
const PUSH_MS = 10_000; // the protocol's own limit for a reply
const CHECK_MS = 2_000; // a living server answers within a round trip
const DOUBT_MS = 500; // an answer later than this: open a second socket beside
const OPEN_MS = 10_000; // a socket that is not open by then leads nowhere
const LOOK_MS = 2_000; // how often the clocks are compared
const SLEPT_MS = 5_000; // a gap longer than this: the machine slept or its clock was set
const MAX_PENDING = 64; // pushes without a reply; a call has two or three
const MAX_BUFFERED = 256 * 1024; // bytes waiting in the socket: beyond, the network is dead
const MAX_FRAME = 256 * 1024; // characters; the largest honest frame is 30 kB
const FATAL = /^(Unauthorized|MalformedJWT|JwtSign|PrivateOnly|TopicNameRequired|Tenant|RealtimeDisabled)/;

export class Realtime {
  /** `url` ends in /websocket; `onState()` tells when the socket opens, closes, is doubted and proven. */
  constructor(url, apikey, onState) {
    this.url = `${url}?apikey=${encodeURIComponent(apikey)}&vsn=2.0.0`;
    this.rest = url.replace(/^ws/, 'http').replace(/websocket$/, 'api/broadcast');
    this.apikey = apikey;
    this.onState = onState;
    this.channels = new Map(); // topic: Channel
    this.pending = new Map(); // ref: {resolve, reject, cancel}
    this.ref = 0;
    this.waits = backoff();
    this.socket = null;
    this.spare = null; // a second socket beside one in doubt
    this.doubted = false;
    this.closed = false;
    addEventListener('online', () => this.check());
    document.addEventListener('visibilitychange', () => document.visibilityState === 'visible' && this.check());
    this.stopLooking = whenJumped(() => this.check());
  }

  /** Open, and nothing speaks against it. */
  get proven() {
    return this.open && !this.doubted;
  }

  get open() {
    return this.socket?.readyState === WebSocket.OPEN;
  }

  connect() {
    if (this.closed || this.socket) return;
    const socket = new WebSocket(this.url);
    this.use(socket);
    const cancel = after(OPEN_MS, () => socket.readyState === WebSocket.CONNECTING && this.lost(socket));
    socket.onopen = () => {
      cancel();
      this.opened();
    };
  }

  use(socket) {
    socket.binaryType = 'arraybuffer';
    this.socket = socket;
    socket.onmessage = ({ data }) => this.receive(data);
    socket.onclose = () => this.lost(socket);
  }

  opened() {
    this.waits = backoff();
    this.stopHeart = every(HEARTBEAT_MS, () => this.check());
    this.onState();
    for (const channel of this.channels.values()) channel.join();
  }

  /** Somebody depends on the socket: ask the server now, and use another one if the answer does not come. */
  check() {
    const socket = this.socket;
    if (!this.open) return this.hint();
    if (this.checking === socket) return;
    this.checking = socket;
    const cancel = after(DOUBT_MS, () => this.doubt(socket));
    this.push([null, 'phoenix', 'heartbeat', {}], CHECK_MS)
      .then(() => socket === this.socket && this.trust())
      .catch(() => this.lost(socket, { hurry: true }))
      .finally(() => {
        cancel();
        if (this.checking === socket) this.checking = null;
      });
  }

  doubt(socket) {
    if (socket !== this.socket || this.closed) return;
    this.doubted = true;
    this.onState();
    const spare = new WebSocket(this.url);
    this.spare = spare;
    spare.onopen = () => {
      if (spare !== this.spare) return;
      this.spare = null;
      if (this.socket) this.lost(this.socket, { next: spare });
    };
  }

  trust() {
    this.spare?.close();
    this.spare = null;
    if (!this.doubted) return;
    this.doubted = false;
    this.onState();
  }

  /** The network seems to be back: do not wait for the next try. */
  hint() {
    if (this.socket || !this.cancelWait) return;
    this.cancelWait();
    this.cancelWait = null;
    this.connect();
  }

  /** `next`: an open socket to go on with; `hurry`: try again at once. */
  lost(socket, { next = null, hurry = false } = {}) {
    if (socket !== this.socket) return;
    const spare = next ? null : this.spare;
    this.socket = null;
    this.spare = null;
    this.doubted = false;
    socket.onopen = socket.onclose = socket.onmessage = null;
    socket.close();
    this.stopHeart?.();
    for (const { reject, cancel } of this.pending.values()) {
      cancel();
      reject(new Error('socket_lost'));
    }
    this.pending.clear();
    for (const channel of this.channels.values()) channel.dropped();
    spare?.close();
    if (next && !this.closed) {
      this.use(next);
      return this.opened();
    }
    this.onState();
    if (!this.closed) {
      this.cancelWait = after(hurry ? 0 : this.waits.next().value, () => {
        this.cancelWait = null;
        this.connect();
      });
    }
  }

  /** Send a frame and wait for its reply; rejects with the server's reason. */
  push([joinRef, topic, event, payload], limitMs = PUSH_MS) {
    if (!this.open) return Promise.reject(new Error('not_connected'));
    if (this.pending.size >= MAX_PENDING || this.socket.bufferedAmount > MAX_BUFFERED) {
      return Promise.reject(new Error('overloaded'));
    }
    const ref = String(++this.ref);
    return new Promise((resolve, reject) => {
      const cancel = after(limitMs, () => {
        this.pending.delete(ref);
        reject(new Error('timeout'));
      });
      this.pending.set(ref, { resolve, reject, cancel });
      this.socket.send(JSON.stringify([joinRef, ref, topic, event, payload]));
    });
  }

  /** Send a frame that nobody answers. */
  cast([joinRef, topic, event, payload]) {
    if (this.open) this.socket.send(JSON.stringify([joinRef, String(++this.ref), topic, event, payload]));
  }

  receive(data) {
    const frame = typeof data === 'string' ? readText(data) : readBinary(data);
    if (!frame) return;
    const [joinRef, ref, topic, event, payload] = frame;
    if (event === 'phx_reply' && this.pending.has(ref)) {
      const { resolve, reject, cancel } = this.pending.get(ref);
      this.pending.delete(ref);
      cancel();
      if (payload?.status === 'ok') resolve(payload.response ?? {});
      else reject(new Error(String(payload?.response?.reason ?? 'refused')));
      return;
    }
    const channel = this.channels.get(topic);
    // A frame of an earlier join of the same topic is not ours any more.
    if (!channel || (joinRef !== null && joinRef !== channel.joinRef)) return;
    channel.receive(event, payload);
  }

  channel(topic, token, handlers) {
    const channel = new Channel(this, `realtime:${topic}`, token, handlers);
    this.channels.set(channel.topic, channel);
    if (this.open) channel.join();
    return channel;
  }

  /** Broadcast as a request that outlives the page: Firefox closes sockets before a page can say goodbye. */
  lastWord(topic, event, payload, token) {
    fetch(this.rest, {
      method: 'POST',
      keepalive: true,
      headers: { 'content-type': 'application/json', apikey: this.apikey, authorization: `Bearer ${token}` },
      body: JSON.stringify({ messages: [{ topic, event, payload, private: true }] }),
      cache: 'no-store',
      credentials: 'omit',
      redirect: 'error',
      referrerPolicy: 'no-referrer',
    }).catch(() => {});
  }

  close() {
    this.closed = true;
    this.cancelWait?.();
    this.stopLooking();
    if (this.socket) this.lost(this.socket);
  }
}

class Channel {
  /** handlers: onBroadcast(event, payload), onJoined(), onRefused(reason). */
  constructor(realtime, topic, token, handlers) {
    Object.assign(this, { realtime, topic, token, handlers });
    this.joinRef = null;
    this.joined = false;
    this.left = false;
    this.waits = backoff();
  }

  async join() {
    if (this.left || !this.realtime.open) return;
    this.cancelWait?.();
    const joinRef = String(this.realtime.ref + 1); // the ref that push() is about to use
    this.joinRef = joinRef;
    const config = { broadcast: { ack: true, self: false }, presence: { enabled: false }, private: true };
    try {
      await this.realtime.push([joinRef, this.topic, 'phx_join', { config, access_token: this.token }]);
    } catch (error) {
      if (this.joinRef !== joinRef || this.left) return;
      if (error.message === 'timeout') this.realtime.check(); // is it the line?
      if (FATAL.test(error.message)) this.handlers.onRefused?.(error.message);
      else this.later();
      return;
    }
    if (this.joinRef !== joinRef || this.left) return;
    this.joined = true;
    this.waits = backoff();
    this.handlers.onJoined?.();
  }

  later() {
    this.joined = false;
    this.cancelWait?.();
    if (!this.left) this.cancelWait = after(this.waits.next().value, () => this.join());
  }

  dropped() {
    this.joined = false;
    this.joinRef = null;
    this.cancelWait?.();
  }

  receive(event, payload) {
    if (event === 'broadcast' && typeof payload?.event === 'string') {
      this.handlers.onBroadcast?.(payload.event, payload.payload);
    } else if ((event === 'phx_error' || event === 'phx_close') && this.joined) {
      this.later(); // with the newest token: the old one may be why
    }
  }

  /** Broadcast; resolves when the server has it. */
  send(event, payload) {
    if (!this.joined) return Promise.reject(new Error('not_joined'));
    return this.realtime.push([this.joinRef, this.topic, 'broadcast', { type: 'broadcast', event, payload }]);
  }

  /** Broadcast without waiting, for a page that is being closed. */
  sendLast(event, payload) {
    this.realtime.cast([this.joinRef, this.topic, 'broadcast', { type: 'broadcast', event, payload }]);
    this.realtime.cast([this.joinRef, this.topic, 'phx_leave', {}]);
  }

  setToken(token) {
    if (token === this.token) return;
    this.token = token;
    if (this.joined) this.realtime.cast([this.joinRef, this.topic, 'access_token', { access_token: token }]);
  }

  leave() {
    if (this.left) return;
    this.left = true;
    this.cancelWait?.();
    if (this.joinRef) this.realtime.cast([this.joinRef, this.topic, 'phx_leave', {}]);
    if (this.realtime.channels.get(this.topic) === this) this.realtime.channels.delete(this.topic);
  }
}

/** Call `action` when the machine slept or its clock was set; returns a function that ends it. */
function whenJumped(action) {
  let [real, steady] = [Date.now(), performance.now()];
  return every(LOOK_MS, () => {
    const [realNow, steadyNow] = [Date.now(), performance.now()];
    const [byClock, bySteady] = [realNow - real, steadyNow - steady];
    [real, steady] = [realNow, steadyNow];
    if (bySteady > LOOK_MS + SLEPT_MS || Math.abs(byClock - bySteady) > SLEPT_MS) action();
  });
}

function readText(text) {
  if (text.length > MAX_FRAME) return null;
  try {
    const frame = JSON.parse(text);
    return Array.isArray(frame) && frame.length === 5 ? frame : null;
  } catch {
    return null;
  }
}

/** Type 4: a broadcast whose payload travels as it is: type, three lengths, encoding, then the parts. */
function readBinary(buffer) {
  const bytes = new Uint8Array(buffer);
  if (bytes.length < 5 || bytes.length > MAX_FRAME || bytes[0] !== 4 || bytes[4] !== 1) return null;
  let at = 5;
  const part = (length) => new TextDecoder().decode(bytes.subarray(at, (at += length)));
  const [topic, event] = [part(bytes[1]), part(bytes[2])];
  part(bytes[3]);
  try {
    const payload = JSON.parse(new TextDecoder().decode(bytes.subarray(at)));
    return [null, null, topic, 'broadcast', { type: 'broadcast', event, payload }];
  } catch {
    return null;
  }
}
