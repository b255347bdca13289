// One matched call, from its channel to its end. Rule: whatever happens, end() runs once, closes the
// microphone and leaves nothing behind.

import { after, within } from './clock.js';
import { DoorRelease } from './door_release.js';
import { MessageFilter, parse } from './messages.js';
import { Media, MediaError } from './media.js';
import * as microphone from './microphone.js';
import { Negotiation } from './negotiation.js';
import { NoSeal, Sealer } from './sealed.js';
import { WordsError, WordsExchange } from './words.js';

export const LIMITS = {
  ringS: 45, // a call that is not answered by then is over
  helloS: 10, // the matched party must appear by then
  connectS: 15, // media must be through by then
  reconnectS: 20, // a lost path must be back by then
  wordsS: 3, // of talk after which missing check words are said
  retryS: 5, // between two tries to bring it back
  byeS: 1, // to say goodbye; nobody waits longer to hang up
  warnS: 60, // before the longest length is reached
};
const MAX_QUEUED = 64; // messages not yet handled; a call has about ten
const LAST_AHEAD = 500; // sequence numbers kept free for the goodbye of a page being closed
const FATAL_SEALS = new Set(['peer_not_sealed', 'peer_sealed', 'wrong_key']);

/** What the other side is told instead: who was reported need not know it. */
const SPOKEN = { reported: 'hung_up' };

export class Call {
  /** `match`: the verb's reply; `kind`, `announce`: see negotiation.js; `desk`: {realtime, verbs, keys, policy, onCall}. */
  constructor(match, kind, desk, { announce = false, name = null } = {}) {
    Object.assign(this, { match, kind, desk, announce, name });
    this.release = new DoorRelease();
    this.slot = match.slot;
    this.token = match.token;
    // Nothing rings before the caller has shown itself: a match alone may be somebody who just left.
    this.phase = { called: 'arriving', calling: 'calling', meet: 'connecting' }[kind];
    this.seq = 0;
    this.queue = Promise.resolve();
    this.queued = 0;
    this.dropped = 0;
    this.words = null;
    this.unchecked = false; // talking, and no check words: nobody can tell who sits in between
    this.peerRings = false;
    this.muted = false;
    this.connected = false;
    this.stream = null;
    this.timers = new Map();
    this.talkingSince = null;
    this.finished = new Promise((resolve) => (this.resolve = resolve));
  }

  async start() {
    const { match, desk } = this;
    const keys = desk.keys.map(({ key }) => key);
    this.filter = new MessageFilter(this.slot);
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
      this.negotiation = new Negotiation(this.kind, match.offerer === this.slot, words, this.announce);
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

  /** What the page shows of the door, or null while there is none to open. */
  get door() {
    return this.release.shown;
  }

  openDoor() {
    const fields = this.phase === 'talking' && this.envelope?.sealed ? this.release.click(performance.now()) : null;
    if (!fields) return;
    this.say('open', fields);
    this.timer('door', DoorRelease.answerS, () => {
      this.release.giveUp();
      this.changed({});
    });
    this.changed({});
  }

  /** The door speaks of its lock; without a seal that could be anybody. */
  onDoor(message) {
    if (!this.envelope.sealed || this.announce) return;
    const fields = this.release.receive(message, performance.now());
    if (fields) this.say('open', fields);
    if (this.release.shown?.state !== 'asking') this.cancel('door');
    this.changed({});
  }

  /** Say nothing to the other side, or speak again; the browser goes on holding the microphone. */
  mute(yes) {
    this.muted = yes;
    for (const track of this.stream?.getAudioTracks() ?? []) track.enabled = !yes;
    this.changed({});
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
      if (/^(hello|bye)$/.test(event) && FATAL_SEALS.has(error.code) && !this.envelope.verified) {
        await this.end(error.code);
      }
      return;
    }
    const message = parse(event, opened);
    if (message && !this.envelope.verified) {
      // It has our key, but may be of an earlier call. Only what answers our own hello is of this one.
      if (event === 'hello') await this.obey(this.negotiation.joined());
      return;
    }
    if (!message || !this.filter.accept(message)) {
      this.dropped += 1;
      return;
    }
    this.cancel('hello');
    if (message.name && this.believesNames) this.name = message.name; // before it rings: it is what is read out
    if (this.phase === 'arriving' && message.event !== 'bye') this.enter('ringing');
    await this.obey(this.negotiation.receive(message));
    await this.showWords();
  }

  /** In an open pool without a key anybody could be the front door: no name is shown. */
  get believesNames() {
    return this.envelope.sealed || Boolean(this.desk.pass);
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
      else if (what === 'door') this.onDoor(details[0]);
      else if (what === 'line') await this.media.useLine(...details);
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
      const stream = await microphone.open();
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
    if (this.talkingSince === null) this.timer('words', LIMITS.wordsS, () => this.missWords());
    this.talkingSince ??= performance.now();
    this.enter('talking');
  }

  retry() {
    if (this.phase !== 'reconnecting') return;
    this.enqueue(() => this.obey(this.negotiation.restart()));
    this.timer('retry', LIMITS.retryS, () => this.retry());
  }

  /** Between our own ends the words are not optional: who takes them out has something to hide. */
  missWords() {
    if (this.words) return;
    if (this.envelope.sealed) this.end('words_missing');
    else this.changed({ unchecked: true });
  }

  async showWords() {
    if (this.over || !this.connected) return;
    const print = await this.media.peerFingerprint();
    const words = print && (await this.negotiation.wordsExchange.words(print));
    if (words && words.join() !== this.words?.join()) this.changed({ words, unchecked: false });
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
    const { verified } = this.envelope; // what was sealed before that was a knock
    if (this.goodbye && this.goodbye.verified === verified && this.seq + LAST_AHEAD / 2 < this.goodbye.seq) return;
    const seq = this.seq + LAST_AHEAD;
    this.goodbye = { seq, verified };
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

  /** The page is going away: only what can be done without waiting. If it stays after all, the call has ended. */
  endNow() {
    if (this.over) return;
    Object.assign(this, { over: true, reason: 'hung_up', phase: 'ended' });
    for (const name of [...this.timers.keys()]) this.cancel(name);
    if (this.stream) stop(this.stream);
    if (this.goodbye?.wire) {
      // Twice: whoever hears both takes the first.
      if (this.channel?.joined) this.channel.sendLast('bye', this.goodbye.wire);
      this.desk.realtime.lastWord(`call:${this.match.call_id}`, 'bye', this.goodbye.wire, this.token);
    }
    const seconds = this.talkingSince === null ? 0 : Math.round((performance.now() - this.talkingSince) / 1000);
    if (seconds) this.desk.verbs.ask('ended', { seconds }, this.token, { keepalive: true }).catch(() => {});
    this.media?.drop();
    this.channel?.leave();
    this.resolve(this);
  }
}

function stop(stream) {
  for (const track of stream.getTracks()) {
    track.onended = null;
    track.stop();
  }
}
