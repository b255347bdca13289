// Sealed signaling in the browser: byte for byte what signaling/sealed.py does (docs/sealed.md).
// Rule: nothing gets past open() unless it was sealed with our intercom key, for this call, in this
// direction, under this event, and never before. The key itself never leaves WebCrypto.

const VERSION = 1;
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

const hkdf = (callId, info) => ({
  name: 'HKDF',
  hash: 'SHA-256',
  salt: text.encode(callId),
  info: text.encode(`voicemeet-edge v${VERSION} ${info}`),
});

async function direction(key, callId, sender) {
  const way = sender === 'a' ? 'a>b' : 'b>a';
  const aes = { name: 'AES-GCM', length: 256 };
  const [id, cipher] = await Promise.all([
    crypto.subtle.deriveBits(hkdf(callId, `key id ${way}`), key, 48),
    crypto.subtle.deriveKey(hkdf(callId, `signaling ${way}`), key, aes, false, ['encrypt', 'decrypt']),
  ]);
  return { id: toBase64url(new Uint8Array(id)), cipher };
}

function algorithm(prefix, seq, slot, event) {
  const iv = new Uint8Array(PREFIX_BYTES + 8);
  iv.set(prefix);
  new DataView(iv.buffer).setBigUint64(PREFIX_BYTES, BigInt(seq));
  return { name: 'AES-GCM', iv, additionalData: text.encode(`voicemeet-edge v${VERSION} sealed\n${slot}\n${event}`) };
}

export class Sealer {
  /** `keys`: one or two CryptoKeys (HKDF); the first seals, all of them open. */
  static async make(keys, callId, slot, prefix = crypto.getRandomValues(new Uint8Array(PREFIX_BYTES))) {
    const peer = slot === 'a' ? 'b' : 'a';
    const [send, ...receive] = await Promise.all([
      direction(keys[0], callId, slot),
      ...keys.map((key) => direction(key, callId, peer)),
    ]);
    return new Sealer(slot, peer, send, new Map(receive.map(({ id, cipher }) => [id, cipher])), prefix);
  }

  constructor(slot, peer, send, receive, prefix) {
    Object.assign(this, { slot, peer, sendWith: send, receive, prefix });
    this.sealed = true;
    this.opened = 0;
    this.refused = {};
    this.used = new Set(); // sequence numbers: a nonce is used once
    this.newest = 0;
    this.seen = new Set();
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
    const how = algorithm(this.prefix, seq, this.slot, event);
    const box = new Uint8Array(await crypto.subtle.encrypt(how, this.sendWith.cipher, plain));
    const whole = new Uint8Array(PREFIX_BYTES + box.length);
    whole.set(this.prefix);
    whole.set(box, PREFIX_BYTES);
    return { v: VERSION, slot: this.slot, seq, k: this.sendWith.id, sealed: toBase64url(whole) };
  }

  async open(event, payload) {
    const envelope = read(payload);
    if (typeof envelope === 'string') throw this.refuse(envelope);
    const { slot, seq, k, box } = envelope;
    if (slot === this.slot) throw this.refuse('reflection');
    this.checkWindow(seq);
    const cipher = this.receive.get(k);
    if (!cipher) throw this.refuse('wrong_key');
    let message;
    try {
      const how = algorithm(box.subarray(0, PREFIX_BYTES), seq, this.peer, event);
      message = unpad(await crypto.subtle.decrypt(how, cipher, box.subarray(PREFIX_BYTES)));
    } catch {
      throw this.refuse('seal_broken');
    }
    if (message?.v !== VERSION || message.slot !== slot || message.seq !== seq) throw this.refuse('seal_broken');
    this.checkWindow(seq); // the same envelope twice at once: both were waiting for WebCrypto
    this.newest = Math.max(this.newest, seq);
    this.seen.add(seq);
    for (const old of this.seen) if (old <= this.newest - WINDOW) this.seen.delete(old);
    this.opened += 1;
    return message;
  }

  checkWindow(seq) {
    if (seq <= this.newest - WINDOW) throw this.refuse('old');
    if (this.seen.has(seq)) throw this.refuse('replay');
  }
}

/** The end without a key: passes messages through and refuses sealed ones. */
export class NoSeal {
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
  const { v, slot, seq, k, sealed } = payload;
  if (v !== VERSION || (slot !== 'a' && slot !== 'b') || typeof k !== 'string') return 'malformed';
  if (!Number.isSafeInteger(seq) || seq < 1 || typeof sealed !== 'string') return 'malformed';
  if (sealed.length > MAX_SEALED_CHARS) return 'too_big';
  const box = fromBase64url(sealed);
  if (!box || toBase64url(box) !== sealed) return 'malformed'; // one box has one spelling
  const size = box.length - PREFIX_BYTES - TAG_BYTES;
  if (size !== SMALL_BYTES && (size <= 0 || size % STEP_BYTES)) return 'truncated';
  return { slot, seq, k, box };
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
