// The messages of a call, contract version 1, and the filter that guards them (signaling/messages.py).

const MAX_SEQ = 2 ** 32 - 1;
const MAX_SDP = 16_384; // characters
const MAX_ATTEMPT = 10_000;
const REORDER_WINDOW = 16; // messages
const MAX_JUMP = 1_024; // messages; one forged huge number must not lock the true sender out

const isText = (value, limit) => typeof value === 'string' && value.length > 0 && value.length <= limit;
const isHex = (value) => isText(value, 128) && /^(?:[0-9a-f]{2})+$/.test(value);
const isWord = (value) => isText(value, 64) && /^[a-z][a-z0-9_]*$/.test(value);
const isAttempt = (value) => value === undefined || (Number.isInteger(value) && value >= 0 && value <= MAX_ATTEMPT);
const isMissingOr = (test) => (value) => value === undefined || value === '' || test(value);
const isRandom = (value) => isText(value, 32) && /^[0-9a-f]{32}$/.test(value);
// What a screen shows and a person reads: no control character, no line break, no lone surrogate.
const isName = (value) => isText(value, 128) && [...value].length <= 64 && !/[\p{C}\p{Zl}\p{Zp}]/u.test(value);
const isNullOrText = (limit) => (value) => value == null || isText(value, limit) || value === '';

const FIELDS = {
  hello: {
    reply: (value) => value === undefined || typeof value === 'boolean',
    nonce: isMissingOr(isHex),
    commitment: isMissingOr(isHex),
    name: isMissingOr(isName),
    announce: (value) => value === undefined || typeof value === 'boolean',
  },
  reveal: { nonce: isHex },
  offer: { sdp: (value) => isText(value, MAX_SDP), attempt: isAttempt },
  answer: { sdp: (value) => isText(value, MAX_SDP), attempt: isAttempt },
  candidate: { candidate: isNullOrText(1_024), mid: isNullOrText(64), attempt: isAttempt },
  restart: { attempt: (value) => value !== undefined && isAttempt(value) && value > 0 },
  line: {
    bitrate: (value) => Number.isInteger(value) && value >= 6_000 && value <= 510_000,
    packet_ms: (value) => [20, 40, 60].includes(value),
  },
  ring: {},
  accept: {},
  open: { request: isRandom, challenge: isMissingOr(isRandom) },
  door: {
    state: (value) => ['ready', 'challenge', 'open', 'closed', 'refused'].includes(value),
    request: isMissingOr(isRandom),
    challenge: isMissingOr(isRandom),
    seconds: (value) => value === undefined || (typeof value === 'number' && value >= 0 && value <= 60),
    reason: isMissingOr(isWord),
  },
  bye: { reason: isWord },
};

/** The message, or null when it is none of contract version 1. */
export function parse(event, payload) {
  const fields = Object.hasOwn(FIELDS, event) ? FIELDS[event] : null;
  if (!fields || !payload || typeof payload !== 'object' || payload.v !== 1) return null;
  const { slot, seq } = payload;
  if ((slot !== 'a' && slot !== 'b') || !Number.isInteger(seq) || seq < 1 || seq > MAX_SEQ) return null;
  for (const [name, test] of Object.entries(fields)) if (!test(payload[name])) return null;
  return { attempt: 0, ...payload, event };
}

/** Lets each message of the other slot pass once, in any order within a small window. */
export class MessageFilter {
  constructor(slot) {
    this.slot = slot;
    this.highest = 0;
    this.seen = new Set();
    this.refused = 0;
  }

  accept({ slot, seq }) {
    const ahead = seq - this.highest;
    if (slot === this.slot || ahead > MAX_JUMP || -ahead >= REORDER_WINDOW || this.seen.has(seq)) {
      this.refused += 1;
      return false;
    }
    this.highest = Math.max(this.highest, seq);
    this.seen.add(seq);
    for (const old of this.seen) if (this.highest - old >= REORDER_WINDOW) this.seen.delete(old);
    return true;
  }
}
