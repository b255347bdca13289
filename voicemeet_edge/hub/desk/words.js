// Check words, as in call/words.py: each end is bound to its nonce and its certificate before it learns
// the other's nonce, so whoever sits in the middle has one blind guess of 2^-24.

import { EVEN, ODD } from './wordlist.js';

const NONCE_BYTES = 32;
const WORDS = 3;
const text = new TextEncoder();

/** The exchange was tampered with; end the call. */
export class WordsError extends Error {
  constructor(code) {
    super(code);
    this.code = code;
  }
}

export const hex = (bytes) => Array.from(bytes, (byte) => byte.toString(16).padStart(2, '0')).join('');

function unhex(digits) {
  if (typeof digits !== 'string' || !/^[0-9a-f]{64}$/.test(digits)) throw new WordsError('bad_message');
  return Uint8Array.from(digits.match(/../g), (pair) => parseInt(pair, 16));
}

/** Read `sha-256 AB:CD:…` or `AB:CD:…`. */
export function fingerprintBytes(line) {
  return unhex(line.trim().toLowerCase().replace(/^sha-256\s+/, '').replaceAll(':', ''));
}

async function sha256(...parts) {
  const bytes = parts.flatMap((part) => Array.from(typeof part === 'string' ? text.encode(part) : part));
  return new Uint8Array(await crypto.subtle.digest('SHA-256', new Uint8Array(bytes)));
}

const commit = (callId, slot, fingerprint, nonce) =>
  sha256('voicemeet-edge v1 commit\n', slot, nonce, fingerprint, callId);

export class WordsExchange {
  static async make(slot, callId, fingerprint, nonce = crypto.getRandomValues(new Uint8Array(NONCE_BYTES))) {
    const own = fingerprintBytes(fingerprint);
    const exchange = new WordsExchange();
    const commitment = hex(await commit(callId, slot, own, nonce));
    return Object.assign(exchange, { slot, callId, own, nonce, commitment });
  }

  constructor() {
    this.peerNonce = null; // hex, once said
    this.peerCommitment = null;
    this.saidNonce = false;
  }

  /** What every hello of ours carries now. */
  helloFields() {
    if (this.slot === 'a') return { commitment: this.commitment };
    if (this.peerCommitment === null) return {}; // slot a must be bound first
    this.saidNonce = true;
    return { nonce: hex(this.nonce), commitment: this.commitment };
  }

  revealNonce() {
    if (this.slot !== 'a' || this.peerNonce === null) throw new Error('words_order');
    this.saidNonce = true;
    return hex(this.nonce);
  }

  /** Returns what to send because of it: 'hello', 'reveal' or null. */
  onHello(nonce = '', commitment = '') {
    if (!commitment) {
      if (nonce) throw new WordsError('words_order');
      return null;
    }
    unhex(commitment);
    if (this.slot === 'b') {
      if (nonce) throw new WordsError('words_order');
      const first = this.peerCommitment === null;
      this.pin('peerCommitment', commitment);
      return first || !this.saidNonce ? 'hello' : null;
    }
    unhex(nonce);
    this.pin('peerCommitment', commitment);
    this.pin('peerNonce', nonce);
    return this.saidNonce ? null : 'reveal';
  }

  onReveal(nonce) {
    if (this.slot !== 'b' || !this.saidNonce) throw new WordsError('words_order');
    unhex(nonce);
    this.pin('peerNonce', nonce);
  }

  pin(name, value) {
    if (this[name] !== null && this[name] !== value) throw new WordsError('words_changed');
    this[name] = value;
  }

  /** The words for the peer's certificate, or null while they cannot be had. */
  async words(peerFingerprint) {
    if (this.peerCommitment === null || this.peerNonce === null || !this.saidNonce) return null;
    const theirs = fingerprintBytes(peerFingerprint);
    const peerSlot = this.slot === 'a' ? 'b' : 'a';
    const expected = hex(await commit(this.callId, peerSlot, theirs, unhex(this.peerNonce)));
    if (expected !== this.peerCommitment) throw new WordsError('bad_commitment');
    const mine = [this.own, this.nonce];
    const other = [theirs, unhex(this.peerNonce)];
    const [[printA, nonceA], [printB, nonceB]] = this.slot === 'a' ? [mine, other] : [other, mine];
    const digest = await sha256('voicemeet-edge v1 check words\n', printA, printB, nonceA, nonceB, this.callId);
    return Array.from(digest.subarray(0, WORDS), (byte, at) => (at % 2 ? ODD : EVEN)[byte]);
  }
}

/** The words as people of different languages can compare them: each as the byte it stands for. */
export function numbers(words) {
  return words.map((word, at) => (at % 2 ? ODD : EVEN).indexOf(word));
}
