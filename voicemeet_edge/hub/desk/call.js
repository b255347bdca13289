// One matched call, from its channel to its end. Rule: whatever happens, end() runs once, closes the
// microphone and leaves nothing behind.

import { after, within } from './clock.js';
import { Inbox, parse } from './messages.js';
import { Media, MediaError } from './media.js';
import { Negotiation } from './negotiation.js';
import { NoSeal, Sealer } from './sealed.js';
import { WordsError, WordsExchange } from './words.js';

export const LIMITS = {
  ringS: 45, // a call that is not answered by then is over
  helloS: 10, // the matched party must appear by then
  connectS: 15, // media must be through by then
  reconnectS: 20, // a lost path must be back by then
  retryS: 5, // between two tries to bring it back
  byeS: 1, // to say goodbye; nobody waits longer to hang up
  warnS: 60, // before the longest length is reached
};
const MAX_QUEUED = 64; // messages not yet handled; a call has about ten
const LAST_AHEAD = 500; // sequence numbers kept free for the goodbye of a page being closed
const FATAL_SEALS = new Set(['peer_not_sealed', 'peer_sealed', 'wrong_key']);

/** What the other side is told instead: who was reported need not know it. */
const SPOKEN = { reported: 'hung_up' };

const MICROPHONE = {
  audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
};

export class Call {
  /** `match`: the verb's reply; `kind`: see negotiation.js; `desk`: {realtime, verbs, keys, policy, onCall}. */
  constructor(match, kind, desk) {
    Object.assign(this, { match, kind, desk });
    this.slot = match.slot;
    this.token = match.token;
    // Nothing rings before the caller has shown itself: a match alone may be somebody who just left.
    this.phase = { called: 'arriving', calling: 'calling', meet: 'connecting' }[kind];
    this.seq = 0;
    this.queue = Promise.resolve();
    this.queued = 0;
    this.dropped = 0;
    this.words = null;
    this.peerRings = false;
    this.connected = false;
    this.stream = null;
    this.timers = new Map();
    this.talkingSince = null;
    this.finished = new Promise((resolve) => (this.resolve = resolve));
  }

  async start() {
    const { match, desk } = this;
    const keys = desk.keys.map(({ key }) => key);
    this.inbox = new Inbox(this.slot);
    this.timer('hello', LIMITS.helloS, () => this.end('peer_absent'));
    this.timer('life', match.max_call_s, () => this.end('time_limit'));
    this.timer('warn', match.max_call_s - LIMITS.warnS, () => this.changed({ warned: true }));
    this.timer('renew', match.token_ttl_s * 0.6, () => this.renew());
    this.enter(this.phase);
    try {
      this.envelope = keys.length ? await Sealer.make(keys, match.call_id, this.slot) : new NoSeal();
      this.media = await Media.make(desk.policy, {
        onState: (state) => this.onMedia(state),
        onTrack: (track) => desk.onTrack(track),
        onCandidate: (candidate, mid, attempt) => this.say('candidate', { candidate, mid, attempt }),
      });
      if (this.over) return this.media.drop();
      this.media.iceServers = match.ice_servers;
      const words = await WordsExchange.make(this.slot, match.call_id, this.media.fingerprint);
      this.negotiation = new Negotiation(this.kind, match.offerer === this.slot, words);
      if (this.over) return this.media.drop();
      this.channel = desk.realtime.channel(`call:${match.call_id}`, this.token, {
        onBroadcast: (event, payload) => this.enqueue(() => this.onMessage(event, payload)),
        onJoined: () => this.enqueue(() => this.obey(this.negotiation.joined())),
        onRefused: () => this.end('signaling_refused'),
      });
      this.enqueue(() => this.obey(this.negotiation.start()));
      if (this.kind === 'meet') await this.openMicrophone();
    } catch {
      this.end('failed');
    }
  }

  // -- what the person does ------------------------------------------------------------------

  async answer() {
    if (this.phase !== 'ringing' || this.kind !== 'called' || !this.negotiation) return;
    this.enter('connecting');
    this.enqueue(() => this.obey(this.negotiation.accept()));
    await this.openMicrophone();
  }

  hangup() {
    return this.end({ ringing: 'declined', calling: 'cancelled' }[this.phase] ?? 'hung_up');
  }

  // -- what happens --------------------------------------------------------------------------

  /** One after the other: WebCrypto and WebRTC answer later, and order matters. */
  enqueue(work) {
    if (this.over || this.queued >= MAX_QUEUED) return;
    this.queued += 1;
    this.queue = this.queue
      .then(() => (this.over ? null : work()))
      .catch((error) => this.onError(error))
      .finally(() => (this.queued -= 1));
  }

  onError(error) {
    if (error instanceof WordsError || error instanceof MediaError) this.end(error.code);
    else this.end('failed');
  }

  async onMessage(event, payload) {
    let opened;
    try {
      opened = await this.envelope.open(event, payload);
    } catch (error) {
      this.dropped += 1;
      // Its goodbye may be all we get: whoever hears the other first ends the call at once.
      // Before the first good message this is who the peer is; afterwards it is somebody's noise.
      if (/^(hello|bye)$/.test(event) && FATAL_SEALS.has(error.code) && !this.envelope.opened) {
        await this.end(error.code);
      }
      return;
    }
    const message = parse(event, opened);
    if (!message || !this.inbox.accept(message)) {
      this.dropped += 1;
      return;
    }
    this.cancel('hello');
    if (this.phase === 'arriving' && message.event !== 'bye') this.enter('ringing');
    await this.obey(this.negotiation.receive(message));
    await this.showWords();
  }

  async obey(commands) {
    for (const [what, ...details] of commands) {
      if (this.over) return;
      if (what === 'send') await this.say(...details);
      else if (what === 'makeOffer') this.prepare('makeOffer', 'offerReady', details[0], details[0]);
      else if (what === 'makeAnswer') this.prepare('makeAnswer', 'answerReady', details[1], ...details);
      else if (what === 'takeAnswer') await this.media.takeAnswer(details[0]);
      else if (what === 'takeCandidate') await this.media.takeCandidate(...details);
      else if (what === 'rings') this.changed({ peerRings: true });
      else if (what === 'accepted') this.onAccepted();
      else if (what === 'left') await this.end(details[0], { byPeer: true });
    }
  }

  /** Gathering takes a while; messages must not wait behind it. */
  async prepare(make, ready, attempt, ...details) {
    try {
      const sdp = await this.media[make](...details);
      this.enqueue(() => this.obey(this.negotiation[ready](sdp, attempt)));
    } catch (error) {
      if (!this.over && attempt === this.media.attempt) this.onError(error);
    }
  }

  onAccepted() {
    this.enter('connecting');
    this.openMicrophone();
  }

  async openMicrophone() {
    try {
      const stream = await navigator.mediaDevices.getUserMedia(MICROPHONE);
      if (this.over) return stop(stream);
      this.stream = stream;
      const [track] = stream.getAudioTracks();
      track.onended = () => this.end('microphone_lost');
      this.media.carry(track);
      this.changed({});
      this.talkIfPossible();
    } catch {
      await this.end('microphone_refused');
    }
  }

  onMedia(state) {
    if (this.over) return;
    if (state === 'connected') {
      this.connected = true;
      this.talkIfPossible();
      this.enqueue(() => this.showWords());
    } else if (this.phase === 'connecting') {
      this.end('connect_timeout');
    } else {
      this.connected = false;
      if (this.phase === 'reconnecting') return; // its time is already running
      this.enter('reconnecting');
      this.retry();
    }
  }

  talkIfPossible() {
    if (!this.connected || !this.stream || this.phase === 'talking') return;
    this.talkingSince ??= performance.now();
    this.enter('talking');
  }

  retry() {
    if (this.phase !== 'reconnecting') return;
    this.enqueue(() => this.obey(this.negotiation.restart()));
    this.timer('retry', LIMITS.retryS, () => this.retry());
  }

  async showWords() {
    if (this.over || !this.connected) return;
    const print = await this.media.peerFingerprint();
    const words = print && (await this.negotiation.wordsExchange.words(print));
    if (words && words.join() !== this.words?.join()) this.changed({ words });
  }

  async renew() {
    try {
      const fresh = await this.desk.verbs.ask('renew', {}, this.token);
      if (this.over) return;
      this.token = fresh.token;
      this.channel?.setToken(fresh.token);
      if (this.media) this.media.iceServers = fresh.ice_servers;
      this.timer('renew', fresh.token_ttl_s * 0.6, () => this.renew());
    } catch {
      this.timer('renew', 5, () => this.renew());
    }
  }

  // -- what we say ---------------------------------------------------------------------------

  async say(event, fields) {
    const wire = await this.envelope.seal(event, { v: 1, slot: this.slot, seq: this.nextSeq(), ...fields });
    const sent = this.channel?.send(event, wire).catch(() => {
      this.dropped += 1; // said again after the rejoin
    });
    await this.prepareGoodbye();
    return event === 'bye' ? sent : undefined;
  }

  nextSeq() {
    this.seq += this.seq + 1 === this.goodbye?.seq ? 2 : 1; // its number is taken
    return this.seq;
  }

  /** A page that is being closed has no time for WebCrypto: its goodbye is sealed beforehand. */
  async prepareGoodbye() {
    if (this.goodbye && this.seq + LAST_AHEAD / 2 < this.goodbye.seq) return;
    const seq = this.seq + LAST_AHEAD;
    this.goodbye = { seq };
    this.goodbye.wire = await this.envelope.seal('bye', { v: 1, slot: this.slot, seq, reason: 'hung_up' });
  }

  // -- states and the end --------------------------------------------------------------------

  enter(phase) {
    this.phase = phase;
    this.rang ||= phase === 'ringing';
    this.wasInCall ||= ['connecting', 'talking', 'reconnecting'].includes(phase); // may be reported
    for (const name of ['ring', 'connect', 'reconnect', 'retry']) this.cancel(name);
    if (phase === 'ringing' || phase === 'calling') this.timer('ring', LIMITS.ringS, () => this.end('no_answer'));
    if (phase === 'connecting') this.timer('connect', LIMITS.connectS, () => this.end('connect_timeout'));
    if (phase === 'reconnecting') this.timer('reconnect', LIMITS.reconnectS, () => this.end('path_lost'));
    this.changed({});
  }

  changed(fields) {
    Object.assign(this, fields);
    if (!this.over) this.desk.onCall(this);
  }

  timer(name, seconds, action) {
    this.cancel(name);
    if (seconds > 0 && seconds < 2 ** 31 / 1000) this.timers.set(name, after(seconds * 1000, action));
  }

  cancel(name) {
    this.timers.get(name)?.();
    this.timers.delete(name);
  }

  get microphoneOpen() {
    return Boolean(this.stream?.getAudioTracks().some((track) => track.readyState === 'live'));
  }

  /** End the call: at once for the ears, then politely for the other side. */
  async end(reason, { byPeer = false } = {}) {
    if (this.over) return this.finished;
    this.over = true;
    this.reason = reason;
    this.byPeer = byPeer;
    for (const name of [...this.timers.keys()]) this.cancel(name);
    if (this.stream) stop(this.stream);
    this.media?.drop();
    this.phase = 'ended';
    this.desk.onCall(this);
    const seconds = this.talkingSince === null ? 0 : Math.round((performance.now() - this.talkingSince) / 1000);
    if (!byPeer && this.channel?.joined) {
      await within(LIMITS.byeS * 1000, this.say('bye', { reason: SPOKEN[reason] ?? reason }), 'slow').catch(() => {});
    }
    this.channel?.leave();
    if (seconds) this.desk.verbs.ask('ended', { seconds }, this.token).catch(() => {});
    this.resolve(this);
    return this;
  }

  /** The page is going away: only what can be done without waiting. */
  endNow() {
    if (this.over) return;
    this.over = true;
    if (this.stream) stop(this.stream);
    if (this.goodbye?.wire && this.channel?.joined) this.channel.sendLast('bye', this.goodbye.wire);
    this.media?.drop();
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) {
    track.onended = null;
    track.stop();
  }
}
