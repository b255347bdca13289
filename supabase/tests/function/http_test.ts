// HTTP around the verbs, with a database that answers what the test says: shapes, limits, and what happens
// when a part behind fails. The whole with a real database is in tests/hosted.
import assert from "node:assert/strict";
import { readConfig } from "../../functions/voicemeet/config.ts";
import type { Answer } from "../../functions/voicemeet/database.ts";
import { ANSWER_WITHIN_MS, isSame, makeHandler } from "../../functions/voicemeet/http.ts";
import { Tokens } from "../../functions/voicemeet/tokens.ts";
import { makeTurn } from "../../functions/voicemeet/turn.ts";
import type { Parts } from "../../functions/voicemeet/verbs.ts";

const KEY = "sb_publishable_1";
const SECRET = "device-secret-of-at-least-32-characters";
const NOW = 1_800_000_000;
const CALL = "c".repeat(32);
const env: Record<string, string> = {
  SUPABASE_URL: "http://127.0.0.1:1",
  SUPABASE_DB_URL: "postgres://nowhere",
  SUPABASE_PUBLISHABLE_KEYS: KEY,
  SUPABASE_SECRET_KEYS: "sb_secret_1",
  VOICEMEET_DEVICE_SECRET: SECRET,
  VOICEMEET_JWT_SECRET: "j".repeat(32),
  VOICEMEET_TURN: "off",
};

type Asked = { verb: string; input: Answer };

async function backend(
  answers: Record<string, Answer>,
  change: Partial<Parts> = {},
  more: Record<string, string> = {},
) {
  const config = readConfig({ get: (name) => ({ ...env, ...more })[name] });
  const asked: Asked[] = [];
  const woken: string[] = [];
  const parts: Parts = {
    ask: (verb, input) => {
      asked.push({ verb, input });
      return Promise.resolve(answers[verb] ?? {});
    },
    tokens: await Tokens.make(config),
    turn: makeTurn(config.turn),
    wake: (ticket) => woken.push(ticket),
    later: (work) => void work.catch(() => {}),
    now: () => NOW,
    ...change,
  };
  const handler = makeHandler(config, parts);
  const post = async (
    verb: string,
    body: BodyInit | null = "{}",
    headers: Record<string, string> = {},
    method = "POST",
  ) => {
    const response = await handler(
      new Request(`http://h/voicemeet/${verb}`, {
        method,
        headers: { apikey: KEY, ...headers },
        body: method === "POST" ? body : null,
      }),
    );
    const text = await response.text();
    return {
      status: response.status,
      headers: response.headers,
      body: text === "" ? null : JSON.parse(text),
    };
  };
  const device = async () => ({ Authorization: `Bearer ${(await parts.tokens.makeDevice(NOW)).token}` });
  const call = async (until = NOW + 3600) => ({
    Authorization: `Bearer ${await parts.tokens.makeCall(CALL, "a", until, NOW)}`,
  });
  return { post, asked, woken, parts, device, call };
}

const MATCH = JSON.stringify({ ticket: "t".repeat(22), pool: "public", role: "either" });

Deno.test("refusals in the contract's shape", async () => {
  const { post, device, asked } = await backend({});
  const cases: [string, BodyInit, number, string][] = [
    ["nothing", "{}", 404, "unknown_verb"],
    ["constructor", "{}", 404, "unknown_verb"],
    ["match/x", "{}", 404, "unknown_verb"],
    ["match", "[]", 400, "bad_request"],
    ["match", "null", 400, "bad_request"],
    ["match", "{", 400, "bad_json"],
    ["match", "[".repeat(8000), 400, "bad_json"],
    ["match", new Uint8Array([255, 254]), 400, "bad_json"],
    ["match", '{"ticket": 5}', 400, "bad_request"],
    ["match", " ".repeat(16_385), 413, "too_large"],
    ["match", " ".repeat(1_000_000), 413, "too_large"],
    ["match", JSON.stringify({ ticket: "t".repeat(22), pool: "-a", role: "either" }), 400, "bad_request"],
    ["match", JSON.stringify({ ticket: "t".repeat(22), pool: "a", role: "both" }), 400, "bad_request"],
    [
      "match",
      JSON.stringify({ ticket: "t".repeat(22), pool: "a", role: "either", proof: "x" }),
      400,
      "bad_request",
    ],
    ["session", '{"pass": 5}', 400, "bad_request"],
    ["session", '{"pass": "nonsense"}', 403, "pass_refused"],
    ["leave", "{}", 400, "bad_request"],
  ];
  for (const [verb, body, status, code] of cases) {
    const answer = await post(verb, body, await device());
    assert.deepEqual(
      [answer.status, answer.body.error.code],
      [status, code],
      `${verb} ${String(body).slice(0, 20)}`,
    );
  }
  assert.deepEqual(asked, []);
  assert.equal((await post("match", MATCH)).body.error.code, "bad_token");
  assert.equal((await post("match", MATCH, { Authorization: "Basic x" })).body.error.code, "bad_token");
  assert.equal((await post("renew", "", await device())).body.error.code, "bad_token");
  for (const apikey of ["", "x", `${KEY}x`]) {
    assert.equal((await post("session", "{}", { apikey })).body.error.code, "bad_apikey");
  }
  const get = await post("match", null, {}, "GET");
  assert.deepEqual([get.status, get.headers.get("allow")], [405, "POST"]);
});

Deno.test("a body in chunks is counted as it comes, and need be no text", async () => {
  const { post, device } = await backend({ match: { status: "waiting", poll_after_s: 15 } });
  const chunks = (...parts: (string | Uint8Array)[]) =>
    new ReadableStream<Uint8Array>({
      start(controller) {
        for (const part of parts) {
          controller.enqueue(typeof part === "string" ? new TextEncoder().encode(part) : part);
        }
        controller.close();
      },
    });
  const half = MATCH.length >> 1;
  const whole = await post("match", chunks(MATCH.slice(0, half), MATCH.slice(half)), await device());
  assert.equal(whole.body.status, "waiting");
  const both: Record<string, string>[] = [{}, { "content-length": "5", "transfer-encoding": "chunked" }];
  for (const headers of both) {
    const endless = new ReadableStream<Uint8Array>({
      pull: (controller) => controller.enqueue(new Uint8Array(1000)),
    });
    const answer = await post("match", endless, { ...await device(), ...headers });
    assert.equal(answer.body.error.code, "too_large");
  }
  const broken = await post("match", chunks(new Uint8Array([255]), "{}"), await device());
  assert.equal(broken.body.error.code, "bad_json");
});

Deno.test("two secrets are the same only when they are, and none is never", () => {
  for (const [given, wanted] of [["", ""], ["a", ""], ["", "a"], ["ab", "a"], ["a", "ab"], ["ab", "aB"]]) {
    assert.equal(isSame(given!, wanted!), false);
  }
  assert.equal(isSame("ab", "ab"), true);
});

Deno.test("what is slow one after the other has one time for all of it", async () => {
  const matched = { status: "matched", call_id: CALL, slot: "a", peer_role: "either", until: NOW + 3600 };
  const given: number[] = [];
  const pass = () => new Promise((resolve) => setTimeout(resolve, 20));
  const { post, device } = await backend({}, {
    ask: async (verb, input, withinMs) => {
      if (verb === "keep_grant") given.push(withinMs!);
      await pass();
      return verb === "match" ? matched : { grant: input.grant };
    },
    turn: {
      keeps: true,
      issue: async (_call, _slot, _now, expiresAt, withinMs) => {
        given.push(withinMs!);
        await pass();
        return { ice_servers: [], expires_at: expiresAt };
      },
      revoke: () => Promise.resolve(),
    },
  });
  assert.equal((await post("match", MATCH, await device())).status, 200);
  const [issue, keep] = given as [number, number];
  assert.ok(issue < ANSWER_WITHIN_MS && keep < issue && keep > 0, String(given));
});

Deno.test("a page of another origin may ask", async () => {
  const { post } = await backend({});
  const answer = await post("match", null, {}, "OPTIONS");
  assert.equal(answer.status, 204);
  assert.match(answer.headers.get("access-control-allow-headers") ?? "", /apikey, authorization/);
});

Deno.test("the door's secret: without it nobody is heard, and only with it an address counts", async () => {
  const { post, asked } = await backend({ session: {} }, {}, { VOICEMEET_DOOR_SECRET: "d".repeat(32) });
  assert.equal((await post("session")).status, 401);
  assert.equal((await post("session", "{}", { "x-voicemeet-door": "wrong" })).status, 401);
  const door = { "x-voicemeet-door": "d".repeat(32), "x-voicemeet-address": "192.0.2.7" };
  assert.equal((await post("session", "{}", door)).status, 200);
  const address = asked[0]!.input.address;
  assert.match(String(address), /^[0-9a-f]{32}$/);
  const open = await backend({ session: {} });
  await open.post("session", "{}", { "x-voicemeet-address": "192.0.2.7" });
  assert.equal(open.asked[0]!.input.address, null);
});

Deno.test("a match: tokens, credentials, and everybody woken who is to ask again", async () => {
  const matched = {
    status: "matched",
    call_id: CALL,
    slot: "b",
    peer_role: "either",
    until: NOW + 3600,
    wake: ["x".repeat(22), null],
  };
  const { post, device, woken, parts } = await backend({ match: matched });
  const { status, body } = await post("match", MATCH, await device());
  assert.equal(status, 200);
  assert.deepEqual([body.slot, body.offerer, body.max_call_s, body.token_ttl_s], ["b", "a", 3600, 600]);
  assert.equal((await parts.tokens.readCall(body.token, NOW)).until, NOW + 3600);
  assert.deepEqual(woken, ["x".repeat(22)]);
});

Deno.test("what the database refuses with, also what this version does not know", async () => {
  for (
    const [error, status] of [["too_fast", 429], ["pool_full", 503], ["ticket_taken", 409], [
      "call_over",
      410,
    ], [
      "from_the_future",
      500,
    ]] as const
  ) {
    const { post, device } = await backend({ match: { error, retry_after_s: 2.4 } });
    const answer = await post("match", MATCH, await device());
    assert.equal(answer.status, status);
    if (status !== 500) {
      assert.deepEqual([answer.body.error.code, answer.headers.get("retry-after")], [error, "3"]);
    }
  }
});

Deno.test("a fault of ours is 500, and its text goes nowhere", async () => {
  const said: string[] = [];
  const error = console.error;
  console.error = (text: string) => void said.push(text);
  try {
    const ask = () => Promise.reject(new Error("a secret"));
    const { post, device } = await backend({}, { ask });
    const answer = await post("match", MATCH, await device());
    assert.deepEqual([answer.status, answer.body.error.code], [500, "internal"]);
    assert.ok(!JSON.stringify([said, answer.body]).includes("a secret"));
  } finally {
    console.error = error;
  }
});

Deno.test("a call that is over is not renewed", async () => {
  const { post, call, asked } = await backend({ renew: {} });
  assert.equal((await post("renew", "", await call(NOW))).body.error.code, "call_over");
  assert.deepEqual(asked, []);
});

Deno.test("Cloudflare TURN: kept for the call, handed out again, given back; down, slow or refusing is 503", async () => {
  const seen: string[] = [];
  let status = 201;
  let made = 0;
  const api = Deno.serve({ port: 0, hostname: "127.0.0.1", onListen: () => {} }, async (request) => {
    seen.push(new URL(request.url).pathname.split("/credentials/")[1]!);
    assert.equal(request.headers.get("authorization"), "Bearer api-token");
    await request.body?.cancel();
    if (request.url.endsWith("/revoke")) return new Response(null, { status: 204 });
    made += 1;
    const turn = { urls: ["turn:t:3478"], username: `user${made}`, credential: "c" };
    return Response.json({ iceServers: [turn] }, { status });
  });
  try {
    const turn = {
      VOICEMEET_TURN: "cloudflare",
      VOICEMEET_TURN_API: `http://127.0.0.1:${api.addr.port}`,
      VOICEMEET_TURN_KEY_ID: "key",
      VOICEMEET_TURN_TOKEN: "api-token",
    };
    let kept: unknown = null;
    const revoking: Promise<unknown>[] = [];
    const answers: Record<string, (input: Answer) => Answer> = {
      renew: () => ({ grant: kept, heard: true }),
      keep_grant: (input) => ({ grant: kept ??= input.grant }),
      ended: () => ({ revoke: kept }),
    };
    const { post, call } = await backend({}, {
      ask: (verb, input) => Promise.resolve(answers[verb]!(input)),
      later: (work) => void revoking.push(work),
    }, turn);
    const first = (await post("renew", "", await call())).body;
    assert.equal(first.ttl_s, 3900);
    const second = (await post("renew", "", await call())).body;
    assert.equal(second.ice_servers[0].username, first.ice_servers[0].username);
    assert.deepEqual(seen, ["generate-ice-servers"]);
    await post("ended", '{"seconds": 5}', await call());
    await Promise.all(revoking);
    assert.deepEqual(seen.slice(1), ["user1/revoke"]);
    for (status of [401, 429, 500]) {
      kept = null;
      const refused = await post("renew", "", await call());
      const { code } = refused.body.error;
      assert.deepEqual([refused.status, code, refused.headers.get("retry-after")], [
        503,
        "turn_unavailable",
        "2",
      ]);
      assert.equal(kept, null, "nothing is kept of it");
    }
  } finally {
    await api.shutdown();
  }
});
