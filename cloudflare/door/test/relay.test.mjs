// The frames inside a socket, through the door in the real Workers runtime: joins are counted, the rest is untouched.
import assert from "node:assert/strict";
import http from "node:http";
import { once } from "node:events";
import { after, before, test } from "node:test";
import WebSocket, { WebSocketServer } from "ws";
import { Budget, mayJoin, MAX_FRAME_BYTES, MAX_PERIOD_BYTES, MAX_SOCKET_JOINS } from "../src/relay.js";
import { bounded } from "./lifetime.mjs";
import { door } from "./serve.mjs";

bounded(120);

const LIMIT = 8; // joins of an address
const backend = http.createServer();
const sockets = new WebSocketServer({ server: backend });
const open = new Set();
let reached = 0; // frames
sockets.on("connection", (socket) => {
  open.add(socket);
  socket.on("close", (code) => {
    open.delete(socket);
    sockets.emit("gone", code);
  });
  // An echo; `["close", 4001]` closes, `["die"]` breaks off, `["flood"]` says more than anybody can hear.
  socket.on("message", (data, isBinary) => {
    reached += 1;
    const [order, value] = isBinary ? [] : /^\["(\w+)"(?:, (\d+))?\]$/.exec(String(data))?.slice(1) ?? [];
    if (order === "close") socket.close(Number(value), "as asked");
    else if (order === "die") socket.terminate();
    else if (order === "flood") for (let i = 0; i < 25; i++) socket.send("f".repeat(MAX_PERIOD_BYTES / 20));
    else socket.send(data, { binary: isBinary });
  });
});

let counting;
let through;
before(async () => {
  await new Promise((done) => backend.listen(0, "127.0.0.1", done));
  const projects = { "": `http://127.0.0.1:${backend.address().port}` };
  const wide = { SOCKETS: { limit: 1000 } };
  counting = door(projects, { limits: { ...wide, JOINS: { limit: LIMIT } } });
  through = door(projects, { limits: { ...wide, JOINS: null } });
  await Promise.all([counting.ready, through.ready]);
});
after(async () => {
  await Promise.all([counting.dispose(), through.dispose()]);
  sockets.close();
  backend.closeAllConnections();
  backend.close();
});

let host = 0;
/** A socket through a door, with what it hears; from an address of its own, unless told. */
async function connect(address = `192.0.2.${++host}`, at = counting) {
  const url = String(await at.ready).replace("http", "ws");
  const socket = new WebSocket(`${url}realtime/v1/websocket?apikey=k&vsn=2.0.0`, {
    headers: { "cf-connecting-ip": address },
  });
  const heard = [];
  const closed = new Promise((done) => socket.on("close", (code, reason) => done([code, String(reason)])));
  socket.on("message", (data, isBinary) => {
    heard.push(isBinary ? [...data] : String(data));
    socket.emit("heard");
  });
  socket.on("error", () => {});
  await once(socket, "open");
  const hears = async (count) => {
    while (heard.length < count) await once(socket, "heard");
    return heard;
  };
  return { socket, heard, hears, closed, send: (frame) => socket.send(frame) };
}
const join = (n) => `["${n}","${n}","realtime:call:c","phx_join",{}]`;

test("frames pass both ways untouched and in order, around joins too", async () => {
  const { send, hears, socket } = await connect();
  const sent = [];
  for (let i = 0; i < 40; i++) {
    const said = `["1","${i}","realtime:call:c","broadcast",{"ü":"\\r\\n ${"x".repeat(i * 50)}"}]`;
    sent.push(i % 10 === 3 ? join(i) : said);
  }
  for (const frame of sent) send(frame);
  send(new Uint8Array([3, 0, 255]));
  assert.deepEqual(await hears(41), [...sent, [3, 0, 255]]);
  socket.close();
});

test("joins are counted per address, over all its sockets, and others are not touched", async () => {
  const [one, two] = [await connect("2001:db8::1"), await connect("2001:db8::2")];
  // The limit is approximate at Cloudflare and exact here; its period may change while we count.
  for (let i = 0; i < LIMIT; i++) one.send(join(i));
  await one.hears(LIMIT);
  for (let i = 0; i <= LIMIT; i++) two.send(join(i));
  assert.deepEqual(await two.closed, [1008, "too_fast: too many joins"]);
  assert.ok(two.heard.length <= LIMIT);
  const other = await connect("2001:db8:0:1::1");
  other.send(join(1));
  await other.hears(1);
  one.send('[null,"7","phoenix","heartbeat",{}]');
  await one.hears(LIMIT + 1); // it goes on: only whoever joins is closed
  one.socket.close();
  other.socket.close();
});

test("what is refused in a frame", async () => {
  const binaryJoin = Buffer.from([0, 1, 1, 1, 8, ...Buffer.from("11tphx_join")]); // Phoenix's kind 0: any event
  for (const [frame, code, reason] of [
    [binaryJoin, 1003, "unknown kind of binary frame"],
    [Buffer.alloc(0), 1003, "unknown kind of binary frame"],
    ["x".repeat(MAX_FRAME_BYTES + 1), 1009, "too_large: a frame"],
  ]) {
    const before = reached;
    const { send, closed } = await connect();
    const gone = once(sockets, "gone");
    send(frame);
    assert.deepEqual(await closed, [code, reason]);
    await gone; // the backend's side is closed with it
    assert.equal(reached, before);
  }
});

test("a flood of one socket ends it, from either side", async () => {
  const up = await connect();
  for (let i = 0; i < 17; i++) up.send("x".repeat(MAX_FRAME_BYTES));
  assert.deepEqual(await up.closed, [1008, "too_fast: too much at once"]);
  const down = await connect();
  down.send('["flood"]');
  assert.deepEqual(await down.closed, [1008, "too_fast: too much at once"]);
  const held = await connect();
  for (let i = 0; i < 200; i++) held.send(i === 0 ? join(0) : "[]");
  await Promise.race([held.closed, held.hears(200)]); // in order, or ended: nothing is dropped in between
  assert.deepEqual(held.heard, [join(0), ...Array(199).fill("[]")].slice(0, held.heard.length));
  held.socket.close();
});

test("either end's closing reaches the other", async () => {
  const asked = await connect();
  asked.send('["close", 4001]');
  assert.deepEqual(await asked.closed, [4001, "as asked"]);
  const died = await connect();
  died.send('["die"]');
  assert.equal((await died.closed)[0], 1011);
  for (const [end, code] of [[(socket) => socket.close(4002, "bye"), 4002], [(socket) => socket.terminate(), 1011]]) {
    const { socket, send, hears } = await connect();
    send("[]");
    await hears(1);
    const gone = once(sockets, "gone");
    end(socket);
    assert.deepEqual(await gone, [code]);
  }
  assert.equal(open.size, 0);
});

test("without a limit of joins nothing is looked at", async () => {
  const { send, hears, socket } = await connect("198.51.100.1", through);
  for (let i = 0; i < 2 * LIMIT; i++) send(join(i));
  send(Buffer.from([0, 1]));
  assert.equal((await hears(2 * LIMIT + 1)).length, 2 * LIMIT + 1);
  socket.close();
});

test("what may be a join", () => {
  for (const text of [
    join(1), '{"event":"phx_join"}', '["1","1","t","\\u0070hx_\\u006Aoin",{}]', '{"event":"phx\\u005fjoin"}',
  ]) assert.ok(mayJoin(text), text);
  for (const text of ["", "[]", '["1","1","t","broadcast",{"sdp":"v=0\\r\\n\\u00e4"}]', '"phx\\\\u005gjoin"']) {
    assert.ok(!mayJoin(text), text);
  }
});

test("a budget is one of its period", () => {
  const budget = new Budget(2, 10);
  assert.deepEqual([1, 1, 1].map((n) => budget.add(n, 100)), [true, true, false]);
  assert.deepEqual([budget.add(1, 109), budget.add(2, 110), budget.add(1, 111)], [false, true, false]);
  const joins = new Budget(MAX_SOCKET_JOINS);
  assert.ok(Array.from({ length: MAX_SOCKET_JOINS }).every(() => joins.add(1, 5)));
  assert.ok(!joins.add(1, 6));
});
