// The frames of one socket, both ways, and the joins in it counted. One rule: a frame passes untouched and in
// its order, or the socket is closed with a reason.

export const MAX_FRAME_BYTES = 262_144; // the hub's, and Realtime's on the Free plan
export const MAX_HELD_FRAMES = 64; // behind a join that is being counted
export const MAX_HELD_BYTES = 524_288;
export const MAX_SOCKET_JOINS = 60; // in PERIOD_MS, of one socket: a device has three topics
export const MAX_PERIOD_BYTES = 4_194_304; // in PERIOD_MS, of one side: an offer has 50 kB
const PERIOD_MS = 10_000;
const PUSH_OF_A_USER = 3; // first byte of the one binary frame that a client may send: a broadcast's

// RFC 6455 section 7.4.1.
const UNSUPPORTED = 1003;
const POLICY = 1008;
const TOO_BIG = 1009;
const BROKEN = 1011;

/** Whether a text frame may be a join, however its letters are written. Rather one too many than one missed. */
export function mayJoin(text) {
  const plain = text.includes("\\u")
    ? text.replace(/\\u([0-9a-f]{4})/gi, (_, code) => String.fromCharCode(parseInt(code, 16)))
    : text;
  return plain.includes("phx_join");
}

/** How much of something there was in this period; `add` says whether it is still within the limit. */
export class Budget {
  constructor(limit, periodMs = PERIOD_MS) {
    [this.limit, this.periodMs, this.used, this.since] = [limit, periodMs, 0, -Infinity];
  }

  add(amount, now = Date.now()) {
    if (now - this.since >= this.periodMs) [this.used, this.since] = [0, now];
    this.used += amount;
    return this.used <= this.limit;
  }
}

/**
 * Connect a client with the backend's socket.
 * @param {WebSocket} backend not accepted yet
 * @param {() => Promise<{success: boolean}>} countJoin of the client's address
 * @returns {Response} the upgrade's answer
 */
export function relay(backend, countJoin) {
  const { 0: theirs, 1: client } = new WebSocketPair();
  const close = closer(client, backend);
  for (const one of [client, backend]) one.binaryType = "arraybuffer";

  const answered = new Budget(MAX_PERIOD_BYTES);
  backend.addEventListener("message", ({ data }) => {
    if (answered.add(size(data))) pass(client, data, close);
    else close(POLICY, "too_fast: too much at once");
  });
  const asked = asking(backend, countJoin, close);
  client.addEventListener("message", ({ data }) => asked(data));
  for (const one of [client, backend]) {
    one.addEventListener("close", ({ code, reason }) => close(code, reason));
    one.addEventListener("error", () => close(BROKEN, "the connection broke"));
  }
  backend.accept();
  client.accept();
  return new Response(null, { status: 101, webSocket: theirs });
}

/** What a client's frame meets: its limits at once, then its turn behind a join that is being counted. */
function asking(backend, countJoin, close) {
  const joins = new Budget(MAX_SOCKET_JOINS);
  const bytes = new Budget(MAX_PERIOD_BYTES);
  const held = [];
  let heldBytes = 0;
  let counting = false;

  async function passHeld() {
    counting = true;
    try {
      while (held.length > 0) {
        const [data, isJoin] = held[0];
        if (isJoin && !(await countJoin()).success) return close(POLICY, "too_fast: too many joins");
        held.shift();
        heldBytes -= size(data);
        pass(backend, data, close);
      }
    } catch {
      close(BROKEN, "the joins cannot be counted");
    } finally {
      counting = false;
    }
  }

  return (data) => {
    const length = size(data);
    const isText = typeof data === "string";
    if (length > MAX_FRAME_BYTES) return close(TOO_BIG, "too_large: a frame");
    if (!isText && new Uint8Array(data)[0] !== PUSH_OF_A_USER) return close(UNSUPPORTED, "unknown kind of binary frame");
    if (!bytes.add(length)) return close(POLICY, "too_fast: too much at once");
    const isJoin = isText && mayJoin(data);
    if (isJoin && !joins.add(1)) return close(POLICY, "too_fast: too many joins");
    if (!counting && !isJoin) return pass(backend, data, close);
    heldBytes += length;
    const isFull = held.length >= MAX_HELD_FRAMES || heldBytes > MAX_HELD_BYTES;
    if (isFull) return close(POLICY, "too_fast: too much at once");
    held.push([data, isJoin]);
    if (!counting) void passHeld();
  };
}

/** Close both sides once, each with the same code; those that only a broken connection has become 1011. */
function closer(...sides) {
  let closed = false;
  return (code, reason) => {
    if (closed) return;
    closed = true;
    const said = code === 1000 || (code >= 3000 && code < 5000) || [1001, 1003, 1007, 1008, 1009].includes(code);
    for (const side of sides) {
      try {
        side.close(code === 1005 ? 1000 : said ? code : BROKEN, reason);
      } catch {
        // It is closed already.
      }
    }
  };
}

function pass(to, data, close) {
  try {
    to.send(data);
  } catch {
    close(BROKEN, "the connection broke");
  }
}

/** Bytes of a frame; of a text at least its characters, which is what it takes in memory here. */
function size(data) {
  return typeof data === "string" ? data.length : data.byteLength;
}
