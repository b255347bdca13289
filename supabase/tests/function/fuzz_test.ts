// Everything that comes from outside, cut, twisted and made up: refused in the contract's shape, never a fault.
// Seeded, so that a failure can be looked at again.
import assert from "node:assert/strict";
import { readConfig } from "../../functions/voicemeet/config.ts";
import { Refused } from "../../functions/voicemeet/errors.ts";
import { makeHandler } from "../../functions/voicemeet/http.ts";
import { Tokens } from "../../functions/voicemeet/tokens.ts";
import { makeTurn, parseCloudflare } from "../../functions/voicemeet/turn.ts";

const ROUNDS = 1_500;
const NOW = 1_800_000_000;

/** A small generator of its own (mulberry32): Math.random cannot be seeded. */
function random(seed: number): () => number {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

function mutated(text: string, next: () => number): string {
  const at = Math.floor(next() * (text.length + 1));
  const odd = ["", ".", "=", "A", "\u0000", "é", "{", '"', "[[[[", "9".repeat(400), "null", "-1", "1e999"];
  const piece = odd[Math.floor(next() * odd.length)]!;
  return text.slice(0, at) + piece + text.slice(at + Math.floor(next() * 4));
}

async function tokens(): Promise<Tokens> {
  return await Tokens.make({ deviceSecret: "d".repeat(32), signingKey: null, jwtSecret: "j".repeat(32) });
}

Deno.test("tokens that are none", async () => {
  const [made, next] = [await tokens(), random(1)];
  const call = await made.makeCall("c".repeat(32), "a", NOW + 60, NOW);
  const device = (await made.makeDevice(NOW)).token;
  for (let round = 0; round < ROUNDS; round++) {
    for (
      const [good, read] of [
        [call, (text: string) => made.readCall(text, NOW)],
        [device, (text: string) => made.readDevice(text, NOW)],
      ] as const
    ) {
      const text = mutated(good, next);
      if (text === good) continue;
      await assert.rejects(
        read(text),
        (error) => error instanceof Refused && error.code === "bad_token",
        text,
      );
    }
  }
});

Deno.test("bodies that are none", async () => {
  const next = random(2);
  const config = readConfig({
    get: (name) =>
      ({
        SUPABASE_URL: "http://127.0.0.1:1",
        SUPABASE_DB_URL: "x",
        SUPABASE_PUBLISHABLE_KEYS: "key",
        SUPABASE_SECRET_KEYS: "secret",
        VOICEMEET_DEVICE_SECRET: "d".repeat(32),
        VOICEMEET_JWT_SECRET: "j".repeat(32),
        VOICEMEET_TURN: "off",
      })[name],
  });
  const made = await tokens();
  const handler = makeHandler(config, {
    ask: () => Promise.resolve({ status: "waiting", poll_after_s: 3 }),
    tokens: made,
    turn: makeTurn(config.turn),
    wake: () => {},
    later: () => {},
    now: () => NOW,
  });
  const headers = { apikey: "key", Authorization: `Bearer ${(await made.makeDevice(NOW)).token}` };
  const bodies = [
    JSON.stringify({ ticket: "t".repeat(22), pool: "public", role: "either", proof: "p".repeat(43) }),
    JSON.stringify({ pass: "a".repeat(26) }),
    JSON.stringify({ seconds: 5 }),
  ];
  const verbs = ["session", "match", "renew", "leave", "report", "ended"];
  for (let round = 0; round < ROUNDS; round++) {
    const body = mutated(mutated(bodies[round % bodies.length]!, next), next);
    const url = `http://h/voicemeet/${verbs[round % verbs.length]}`;
    const response = await handler(new Request(url, { method: "POST", headers, body }));
    const answer = await response.json();
    assert.ok([200, 400, 401, 403].includes(response.status), `${response.status} for ${body}`);
    if (response.status !== 200) assert.match(answer.error.code, /^[a-z_]+$/);
  }
});

Deno.test("answers of the TURN API that are none", () => {
  const next = random(3);
  const good = JSON.stringify({
    iceServers: [{ urls: ["stun:s:1"] }, { urls: ["turn:t:1"], username: "u", credential: "c" }],
  });
  for (let round = 0; round < ROUNDS; round++) {
    const text = mutated(mutated(good, next), next);
    try {
      for (const server of parseCloudflare(text)) assert.ok(server.urls.length > 0);
    } catch (error) {
      assert.ok(error instanceof Refused && error.code === "turn_unavailable", text);
    }
  }
});
