// The door in the real Workers runtime, over real HTTP and WebSockets, with a backend that writes down what
// reached it.
import assert from "node:assert/strict";
import http from "node:http";
import { after, before, test } from "node:test";
import WebSocket, { WebSocketServer } from "ws";
import { counted } from "../src/door.js";
import { bounded } from "./lifetime.mjs";
import { door } from "./serve.mjs";

bounded(120);

const seen = [];
let status = 200;
let extra = {};
const backend = http.createServer((request, response) => {
  const chunks = [];
  request.on("data", (chunk) => chunks.push(chunk));
  request.on("end", () => {
    seen.push({ url: request.url, headers: request.headers, body: Buffer.concat(chunks).toString() });
    response.writeHead(status, { "content-type": "application/json", "x-secret-of-the-platform": "1", ...extra });
    response.end('{"ok": true}');
  });
});
const sockets = new WebSocketServer({ server: backend });
sockets.on("connection", (socket, request) => {
  seen.push({ url: request.url, headers: request.headers });
  socket.on("message", (data, isBinary) => socket.send(data, { binary: isBinary }));
});

let running;
let url;

before(async () => {
  await new Promise((done) => backend.listen(0, "127.0.0.1", done));
  const project = `http://127.0.0.1:${backend.address().port}`;
  running = door({ "": project, berlin: `${project}/`, dead: "http://127.0.0.1:1" }, {
    secret: "door-secret",
    limits: { REQUESTS: { limit: 30 }, SOCKETS: { limit: 3 } },
  });
  url = String(await running.ready).replace(/\/$/, "");
});
after(async () => {
  await running.dispose();
  sockets.close();
  backend.closeAllConnections();
  backend.close();
});

let host = 0;
/** Each request from an address of its own, unless told. */
const ask = (path, options = {}) => {
  const headers = { "cf-connecting-ip": `192.0.2.${++host}`, apikey: "k", ...options.headers };
  return fetch(url + path, { method: "POST", body: "{}", redirect: "manual", ...options, headers });
};
const code = async (response) => (await response.json()).error.code;
const VERB = "/functions/v1/voicemeet/";

test("the six verbs pass, with what they need and nothing else", async () => {
  for (const verb of ["session", "match", "renew", "leave", "report", "ended"]) {
    seen.length = 0;
    const response = await ask(`${VERB}${verb}?x=1`, {
      body: '{"a": "ä"}',
      headers: {
        "cf-connecting-ip": "198.51.100.7",
        authorization: "Bearer t",
        cookie: "c=1",
        "x-forwarded-for": "198.51.100.7",
        "x-real-ip": "198.51.100.7",
        "user-agent": "kiosk",
        "x-voicemeet-door": "forged",
      },
    });
    assert.equal(response.status, 200);
    assert.deepEqual(await response.json(), { ok: true });
    assert.equal(response.headers.get("x-secret-of-the-platform"), null);
    assert.equal(response.headers.get("access-control-allow-origin"), "*");
    const [{ url: path, headers, body }] = seen;
    assert.equal(path, `${VERB}${verb}`);
    assert.equal(body, '{"a": "ä"}');
    assert.deepEqual([headers.apikey, headers.authorization], ["k", "Bearer t"]);
    assert.equal(headers["x-voicemeet-door"], "door-secret");
    assert.equal(headers["x-voicemeet-address"], "198.51.100.7");
    for (const name of ["cookie", "x-forwarded-for", "x-real-ip", "cf-connecting-ip"]) {
      assert.equal(headers[name], undefined, name);
    }
  }
});

test("nothing else passes", async () => {
  seen.length = 0;
  const paths = [
    "/", "/rest/v1/", "/auth/v1/signup", "/functions/v1/other/session", `${VERB}`, `${VERB}session/`, `${VERB}admin`,
    `${VERB}..%2fother`, "/functions/v1/voicemeet", "/realtime/v1/api/broadcast", "/storage/v1/object/x",
    `//evil.example${VERB}session`, `/UPPER${VERB}session`,
  ];
  for (const path of paths) {
    const response = await ask(path);
    assert.equal(response.status, 404, path);
    assert.equal(await code(response), "not_found");
  }
  const get = await fetch(`${url}${VERB}match`, { headers: { "cf-connecting-ip": "203.0.113.1" } });
  assert.deepEqual([get.status, get.headers.get("allow")], [405, "POST"]);
  assert.equal((await ask(`${VERB}match`, { body: "x".repeat(16_385) })).status, 413);
  // Without a length: counted while it is read.
  const long = new Blob(["x".repeat(20_000)]).stream();
  assert.equal((await ask(`${VERB}match`, { body: long, duplex: "half" })).status, 413);
  assert.deepEqual(seen, []);
});

test("a page of another origin is answered here, at no cost behind", async () => {
  seen.length = 0;
  const response = await ask(`${VERB}match`, { method: "OPTIONS", body: undefined });
  assert.equal(response.status, 204);
  assert.match(response.headers.get("access-control-allow-headers"), /authorization/);
  assert.deepEqual(seen, []);
});

test("a pool leads to its project, an unknown one nowhere, a dead one is said", async () => {
  seen.length = 0;
  assert.equal((await ask(`/berlin${VERB}match`)).status, 200);
  assert.equal(seen[0].url, `${VERB}match`);
  assert.equal(await code(await ask(`/paris${VERB}match`)), "unknown_pool");
  const dead = await ask(`/dead${VERB}match`);
  assert.deepEqual([dead.status, dead.headers.get("retry-after"), await code(dead)], [503, "5", "upstream"]);
});

test("errors pass as they are, a redirect does not", async () => {
  [status, extra] = [429, { "retry-after": "7" }];
  const slow = await ask(`${VERB}match`);
  assert.deepEqual([slow.status, slow.headers.get("retry-after")], [429, "7"]);
  [status, extra] = [302, { location: "https://evil.example/" }];
  assert.equal((await ask(`${VERB}match`)).status, 503);
  [status, extra] = [200, {}];
});

test("a flood of one address ends here, others are not touched", async () => {
  seen.length = 0;
  const flood = { headers: { "cf-connecting-ip": "2001:db8:1:2:3:4:5:6" } };
  const answers = [];
  for (let i = 0; i < 40; i++) answers.push((await ask(`${VERB}match`, flood)).status);
  const refused = answers.filter((one) => one === 429).length;
  assert.ok(refused >= 9, `${refused} refused`);
  assert.equal(seen.length, 40 - refused);
  // The same subscriber's next address, then somebody else's.
  const neighbour = await ask(`${VERB}match`, { headers: { "cf-connecting-ip": "2001:db8:1:2::9" } });
  assert.deepEqual([neighbour.status, neighbour.headers.get("retry-after")], [429, "10"]);
  assert.equal((await ask(`${VERB}match`, { headers: { "cf-connecting-ip": "2001:db8:1:3::9" } })).status, 200);
});

const connect = (path, address) => {
  const socket = new WebSocket(url.replace("http", "ws") + path, { headers: { "cf-connecting-ip": address } });
  return new Promise((resolve) => {
    socket.on("open", () => resolve({ socket }));
    socket.on("unexpected-response", (_, response) => resolve({ status: response.statusCode }));
    socket.on("error", () => {});
  });
};

test("the WebSocket passes both ways, with its key and version only", async () => {
  seen.length = 0;
  const { socket } = await connect("/berlin/realtime/v1/websocket?apikey=k&vsn=2.0.0&log_level=debug", "198.51.100.8");
  const echoed = new Promise((resolve) => socket.on("message", (data, isBinary) => resolve([isBinary, [...data]])));
  socket.send(new Uint8Array([3, 0, 255]));
  assert.deepEqual(await echoed, [true, [3, 0, 255]]);
  assert.equal(seen[0].url, "/realtime/v1/websocket?apikey=k&vsn=2.0.0");
  assert.ok(!JSON.stringify(seen).includes("198.51.100.8"));
  socket.close();
  assert.equal((await ask("/realtime/v1/websocket", { method: "GET", body: undefined })).status, 400);
});

test("sockets are counted per address", async () => {
  const results = [];
  for (let i = 0; i < 6; i++) results.push(await connect("/realtime/v1/websocket?apikey=k", "198.51.100.9"));
  assert.ok(results.some(({ status: refused }) => refused === 429));
  for (const { socket } of results) socket?.close();
});

test("who is counted as one", () => {
  assert.equal(counted("192.0.2.1"), "192.0.2.1");
  assert.equal(counted("::ffff:192.0.2.1"), "192.0.2.1");
  assert.equal(counted("2001:0db8::1"), "2001:db8:0:0");
  assert.equal(counted("2001:db8:0:0:1:2:3:4"), "2001:db8:0:0");
  assert.equal(counted("::1"), "0:0:0:0");
  assert.equal(counted(""), "");
});
