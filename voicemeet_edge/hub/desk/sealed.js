// Sealed signaling in the browser: byte for byte what signaling/sealed.py does (docs/sealed.md).
// Rule: nothing gets past open() unless it was sealed with our intercom key, for this call, in this
// direction, under this event, and never before. The key itself never leaves WebCrypto.

const VERSION = 1;
const FRESH_BYTES = 16; // random, of each end for each call: keys never come again
const MAX_HEARD = 16; // freshnesses of the peer we bear; an honest one has one
const KNOCKS = ['hello', 'bye']; // what may be said before the other's freshness is known
const PREFIX_BYTES = 4; // random part of the nonce: a reloaded page never repeats one
const TAG_BYTES = 16;
const SMALL_BYTES = 1024; // every message without a session description has this one size
const STEP_BYTES = 4096; // the larger ones grow in these steps
const MAX_PLAIN_BYTES = 6 * STEP_BYTES;
const MAX_SEALED_CHARS = Math.floor(((PREFIX_BYTES + MAX_PLAIN_BYTES + TAG_BYTES) * 4) / 3) + 4;
const WINDOW = 64; // messages

const text = new TextEncoder();

/** What came does not open; `code` is the same word as in Python. */
export class SealError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

const hkdf = (callId, fresh, info) => ({
  name: 'HKDF',
  hash: 'SHA-256',
  salt: new Uint8Array([...text.encode(callId), ...fresh]),
  info: text.encode(`voicemeet-edge v${VERSION} ${info}`),
});

/** Short key id and cipher of what `sender` seals with; `knock`: while it knows only its own freshness. */
async function direction(key, callId, sender, fresh, knock = false) {
  const way = sender === 'a' ? 'a>b' : 'b>a';
  const aes = { name: 'AES-GCM', length: 256 };
  const [idOf, cipherOf] = knock ? ['knock id', 'knock'] : ['key id', 'signaling'];
  const [id, cipher] = await Promise.all([
    crypto.subtle.deriveBits(hkdf(callId, fresh, `${idOf} ${way}`), key, 48),
    crypto.subtle.deriveKey(hkdf(callId, fresh, `${cipherOf} ${way}`), key, aes, false, ['encrypt', 'decrypt']),
  ]);
  return { id: toBase64url(new Uint8Array(id)), cipher };
}

const byId = (directions) => new Map(directions.map(({ id, cipher }) => [id, cipher]));

function algorithm(prefix, seq, slot, event, fresh) {
  const iv = new Uint8Array(PREFIX_BYTES + 8);
  iv.set(prefix);
  new DataView(iv.buffer).setBigUint64(PREFIX_BYTES, BigInt(seq));
  return { name: 'AES-GCM', iv, additionalData: text.encode(`voicemeet-edge v${VERSION} sealed\n${slot}\n${event}\n${fresh}`) };
}

/**
 * Until the peer's freshness is known we knock: a hello (or a goodbye) under a key that only says that its
 * sender has the intercom key. All else is under a key of both ends' freshness: of this call and no other.
 */
export class Sealer {
  /** `keys`: one or two CryptoKeys (HKDF); the first seals, all of them open. The rest is for vectors. */
  static async make(keys, callId, slot, { prefix = random(PREFIX_BYTES), fresh = random(FRESH_BYTES) } = {}) {
    const send = await direction(keys[0], callId, slot, fresh, true);
    return new Sealer({ keys, callId, slot, prefix, fresh, send });
  }

  constructor(own) {
    Object.assign(this, own);
    this.peer = this.slot === 'a' ? 'b' : 'a';
    this.sealed = true;
    this.opened = 0;
    this.proven = null; // the peer's freshness, once it sealed with ours
    this.heard = new Map(); // by the peer's freshness: what it seals with, what we do
    this.refused = {};
    this.used = new Set(); // sequence numbers: a nonce is used once
    this.newest = 0;
    this.seen = new Set();
  }

  /** Whether the peer has shown that it is there now, in this call. */
  get verified() {
    return this.proven !== null;
  }

  refuse(code) {
    this.refused[code] = (this.refused[code] ?? 0) + 1;
    return new SealError(code);
  }

  async seal(event, message) {
    const { seq } = message;
    if (message.slot !== this.slot || this.used.has(seq)) throw new Error('bad_seal_order');
    this.used.add(seq);
    const plain = pad(text.encode(JSON.stringify(message)));
    if (!plain) throw this.refuse('too_big');
    const f = toBase64url(this.fresh);
    const { id: k, cipher } = this.send;
    const how = algorithm(this.prefix, seq, this.slot, event, f);
    const box = new Uint8Array(await crypto.subtle.encrypt(how, cipher, plain));
    const whole = new Uint8Array(PREFIX_BYTES + box.length);
    whole.set(this.prefix);
    whole.set(box, PREFIX_BYTES);
    return { v: VERSION, slot: this.slot, seq, f, k, sealed: toBase64url(whole) };
  }

  /** While `verified` stays false afterwards it was a knock, perhaps of an earlier call: only to be answered. */
  async open(event, payload) {
    const envelope = read(payload);
    if (typeof envelope === 'string') throw this.refuse(envelope);
    const { slot, seq, f, k, box } = envelope;
    if (slot === this.slot) throw this.refuse('reflection');
    if (this.verified) this.checkWindow(seq);
    const heard = await this.hear(f);
    if (!heard) throw this.refuse('not_fresh');
    const knock = heard.knock.has(k);
    const cipher = (knock ? heard.knock : heard.call).get(k);
    if (!cipher) throw this.refuse('wrong_key');
    if (knock && !KNOCKS.includes(event)) throw this.refuse('not_fresh');
    let message;
    try {
      const how = algorithm(box.subarray(0, PREFIX_BYTES), seq, this.peer, event, f);
      message = unpad(await crypto.subtle.decrypt(how, cipher, box.subarray(PREFIX_BYTES)));
    } catch {
      throw this.refuse('seal_broken');
    }
    if (message?.v !== VERSION || message.slot !== slot || message.seq !== seq) throw this.refuse('seal_broken');
    this.heard.set(f, heard);
    if (knock && !this.verified) {
      this.send = heard.send;
      return message;
    }
    if (this.verified && f !== this.proven) throw this.refuse('not_fresh');
    this.checkWindow(seq); // the same envelope twice at once: both were waiting for WebCrypto
    this.proven = f;
    this.send = heard.send;
    this.newest = Math.max(this.newest, seq);
    this.seen.add(seq);
    for (const old of this.seen) if (old <= this.newest - WINDOW) this.seen.delete(old);
    this.opened += 1;
    return message;
  }

  /** The keys of a peer with this freshness; null for one too many, or not the proven one. */
  async hear(f) {
    if (this.verified && f !== this.proven) return null;
    if (this.heard.has(f)) return this.heard.get(f);
    if (this.heard.size >= MAX_HEARD) return null;
    const { keys, callId, slot, peer } = this;
    const theirs = fromBase64url(f);
    const pair = slot === 'a' ? [...this.fresh, ...theirs] : [...theirs, ...this.fresh];
    const [knock, call, send] = await Promise.all([
      Promise.all(keys.map((key) => direction(key, callId, peer, theirs, true))),
      Promise.all(keys.map((key) => direction(key, callId, peer, pair))),
      direction(keys[0], callId, slot, pair),
    ]);
    return { knock: byId(knock), call: byId(call), send };
  }

  checkWindow(seq) {
    if (seq <= this.newest - WINDOW) throw this.refuse('old');
    if (this.seen.has(seq)) throw this.refuse('replay');
  }
}

const random = (count) => crypto.getRandomValues(new Uint8Array(count));

/** The end without a key: passes messages through and refuses sealed ones. */
export class NoSeal {
  get verified() {
    return this.opened > 0;
  }

  constructor() {
    this.sealed = false;
    this.opened = 0;
    this.refused = {};
  }

  async seal(event, message) {
    return message;
  }

  async open(event, payload) {
    const code = !payload || typeof payload !== 'object' ? 'malformed' : 'sealed' in payload ? 'peer_sealed' : null;
    if (code) {
      this.refused[code] = (this.refused[code] ?? 0) + 1;
      throw new SealError(code);
    }
    this.opened += 1;
    return payload;
  }
}

function read(payload) {
  if (!payload || typeof payload !== 'object' || Array.isArray(payload)) return 'malformed';
  if (!('sealed' in payload)) return 'peer_not_sealed';
  const { v, slot, seq, f, k, sealed } = payload;
  if (v !== VERSION || (slot !== 'a' && slot !== 'b') || typeof k !== 'string') return 'malformed';
  if (!Number.isSafeInteger(seq) || seq < 1 || typeof sealed !== 'string') return 'malformed';
  if (typeof f !== 'string' || f.length !== 22 || toBase64url(fromBase64url(f) ?? []) !== f) return 'malformed';
  if (sealed.length > MAX_SEALED_CHARS) return 'too_big';
  const box = fromBase64url(sealed);
  if (!box || toBase64url(box) !== sealed) return 'malformed'; // one box has one spelling
  const size = box.length - PREFIX_BYTES - TAG_BYTES;
  if (size !== SMALL_BYTES && (size <= 0 || size % STEP_BYTES)) return 'truncated';
  return { slot, seq, f, k, box };
}

function pad(message) {
  const size = 4 + message.length;
  if (size > MAX_PLAIN_BYTES) return null;
  const plain = new Uint8Array(size <= SMALL_BYTES ? SMALL_BYTES : Math.ceil(size / STEP_BYTES) * STEP_BYTES);
  new DataView(plain.buffer).setUint32(0, message.length);
  plain.set(message, 4);
  return plain;
}

function unpad(buffer) {
  const length = new DataView(buffer).getUint32(0);
  if (length > buffer.byteLength - 4) return null;
  return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(new Uint8Array(buffer, 4, length)));
}

export function toBase64url(bytes) {
  let binary = '';
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return btoa(binary).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}

export function fromBase64url(letters) {
  if (!/^[A-Za-z0-9_-]*$/.test(letters) || letters.length % 4 === 1) return null;
  const binary = atob(letters.replaceAll('-', '+').replaceAll('_', '/'));
  return Uint8Array.from(binary, (letter) => letter.charCodeAt(0));
}
