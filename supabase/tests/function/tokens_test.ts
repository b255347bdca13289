// Tokens, TURN and shapes by themselves: vectors shared with the hub, and what must not pass.
import assert from "node:assert/strict";
import { type Config, ConfigError, readConfig } from "../../functions/voicemeet/config.ts";
import { Refused } from "../../functions/voicemeet/errors.ts";
import { pass, type Slot } from "../../functions/voicemeet/shapes.ts";
import { base64url, MAX_KNOWN, Tokens } from "../../functions/voicemeet/tokens.ts";
import { makeTurn, parseCloudflare, turnPassword, turnUsername } from "../../functions/voicemeet/turn.ts";

const NOW = 1_800_000_000;
const CALL = "c".repeat(32);
const SECRET = "device-secret-of-at-least-32-characters";

async function jwk(): Promise<JsonWebKey & { kid: string }> {
  const pair = await crypto.subtle.generateKey({ name: "ECDSA", namedCurve: "P-256" }, true, [
    "sign",
    "verify",
  ]);
  return { ...(await crypto.subtle.exportKey("jwk", pair.privateKey)), kid: "key-1" };
}

const es = async () => Tokens.make({ deviceSecret: SECRET, signingKey: await jwk(), jwtSecret: "" });
const hs = () => Tokens.make({ deviceSecret: SECRET, signingKey: null, jwtSecret: "j".repeat(32) });

async function refused(work: Promise<unknown>, code = "bad_token") {
  await assert.rejects(work, (error: unknown) => error instanceof Refused && error.code === code);
}

for (const [name, make] of [["ES256", es], ["HS256", hs]] as const) {
  Deno.test(`${name}: a call token says what it opens, until it ends`, async () => {
    const tokens = await make();
    const token = await tokens.makeCall(CALL, "b", NOW + 3600.9, NOW);
    assert.deepEqual(await tokens.readCall(token, NOW), { callId: CALL, slot: "b", until: NOW + 3600 });
    await refused(tokens.readCall(token, NOW + 601));
    assert.equal((await tokens.readCall(token, NOW + 601, 3600)).slot, "b");
    const header = JSON.parse(atob(token.split(".")[0]!));
    assert.equal(header.alg, name);
    assert.equal(header.kid, name === "ES256" ? "key-1" : undefined);
  });

  Deno.test(`${name}: nothing forged, foreign, unsigned or cut passes`, async () => {
    const tokens = await make();
    const [other, device] = [await make(), (await tokens.makeDevice(NOW)).token];
    const good = await tokens.makeCall(CALL, "a", NOW + 60, NOW);
    const [head, body, signature] = good.split(".") as [string, string, string];
    const text = (value: unknown) => base64url(new TextEncoder().encode(JSON.stringify(value)).buffer);
    const bad = [
      "",
      "x",
      "a.b.c",
      "..",
      good.slice(0, -3),
      `${good}x`,
      `${head}.${
        text({ role: "anon", exp: NOW + 600, call_id: CALL, slot: "a", until: NOW + 60 })
      }.${signature}`,
      `${text({ alg: "none" })}.${body}.`,
      `${text({ alg: "none" })}.${body}.${signature}`,
      `${text({ alg: name === "ES256" ? "HS256" : "ES256" })}.${body}.${signature}`,
      device,
      await tokens.makeWait("t".repeat(22), NOW),
      `${head}.${body}.${"A".repeat(5000)}`,
    ];
    if (name === "ES256") bad.push(await other.makeCall(CALL, "a", NOW + 60, NOW));
    for (const token of bad) await refused(tokens.readCall(token, NOW));
    await refused(tokens.readDevice(good, NOW));
    await refused(tokens.readDevice("", NOW));
  });
}

Deno.test("a device token is a hash of its own, enrolled or not, and outlives its end for its score", async () => {
  const tokens = await es();
  const made = await tokens.makeDevice(NOW, "0123456789abcdef");
  // Twice: the second time it is remembered, and must end, and be no other's, all the same.
  for (let time = 0; time < 2; time++) {
    const { device, pass } = await tokens.readDevice(made.token, NOW);
    assert.deepEqual([device, pass], [made.device, "0123456789abcdef"]);
  }
  await refused(tokens.readDevice(`${made.token.slice(0, -3)}AAA`, NOW));
  await refused(tokens.readDevice(made.token, NOW + 86_401));
  assert.equal((await tokens.readDevice(made.token, NOW + 86_401, 3600)).device, made.device);
  assert.notEqual((await tokens.makeDevice(NOW)).device, made.device);
  assert.equal((await tokens.readDevice((await tokens.makeDevice(NOW)).token, NOW)).pass, null);
});

Deno.test("a worker remembers so many device tokens and no more, and reads the forgotten ones again", async () => {
  const tokens = await hs();
  const first = await tokens.makeDevice(NOW);
  await tokens.readDevice(first.token, NOW);
  for (let others = 0; others < MAX_KNOWN + 10; others++) {
    await tokens.readDevice((await tokens.makeDevice(NOW)).token, NOW);
  }
  assert.equal(tokens.remembered, MAX_KNOWN);
  assert.equal((await tokens.readDevice(first.token, NOW)).device, first.device);
});

Deno.test("a receipt is the same for the same call and slot, and tells neither", async () => {
  const tokens = await es();
  const receipt = await tokens.receipt(CALL, "a");
  assert.match(receipt, /^([0-9A-F]{4}-){3}[0-9A-F]{4}$/);
  assert.equal(await tokens.receipt(CALL, "a"), receipt);
  assert.notEqual(await tokens.receipt(CALL, "b"), receipt);
});

Deno.test("a pass in its one form", () => {
  assert.equal(pass({ pass: "ABCDE-FGHJK-MNPQR-STVWX-YZ012-3" }), "abcdefghjkmnpqrstvwxyz0123");
  assert.equal(pass({ pass: " oilab cdefg hjkmn pqrst vwxyz 2" }), "011abcdefghjkmnpqrstvwxyz2");
  for (const bad of ["u".repeat(26), "a".repeat(25), "a".repeat(27), "é".repeat(26)]) {
    assert.equal(pass({ pass: bad }), null);
  }
  for (const bad of ["", 5, null, "a".repeat(129)]) assert.throws(() => pass({ pass: bad }), Refused);
});

Deno.test("TURN REST API: the vectors that the hub and coturn agree on", async () => {
  assert.equal(await turnPassword("testsecret123", "1795374350:call_abc"), "kGZqnodfdk5TdHQ3/W+n8F2DLcA=");
  const name = (slot: Slot, at: number) => turnUsername("testsecret123", CALL, slot, at);
  assert.match(await name("a", 5), /^5:[0-9a-f]{24}$/);
  assert.equal((await name("a", 9.7)).slice(2), (await name("a", 5)).slice(2));
  assert.notEqual((await name("b", 5)).slice(2), (await name("a", 5)).slice(2));
  const turn = makeTurn({ provider: "hmac", secret: "s", urls: ["stun:h:1", "turn:h:1?transport=udp"] });
  const grant = await turn.issue(CALL, "a", NOW, NOW + 60);
  assert.deepEqual(grant.ice_servers.map((server) => server.urls), [["stun:h:1"], [
    "turn:h:1?transport=udp",
  ]]);
});

Deno.test("Cloudflare's answer: both documented shapes, and nothing else", () => {
  const turn = {
    urls: ["turn:t:3478?transport=udp", "turn:t:53?transport=udp"],
    username: "u",
    credential: "c",
  };
  const read = (iceServers: unknown) => parseCloudflare(JSON.stringify({ iceServers }));
  assert.deepEqual(read(turn), [{ ...turn, urls: ["turn:t:3478?transport=udp"] }]);
  assert.equal(read([{ urls: "stun:s" }, turn]).length, 2);
  for (
    const bad of [
      null,
      [],
      {},
      [null],
      [{ urls: "stun:only" }],
      [{ ...turn, credential: 5 }],
      [{ ...turn, username: "" }],
      [{ ...turn, urls: [] }],
      [{ ...turn, urls: [5] }],
      [{ ...turn, urls: ["x".repeat(513)] }],
      Array(9).fill(turn),
    ]
  ) assert.throws(() => read(bad), Refused);
  assert.throws(() => parseCloudflare("<html>"), Refused);
});

Deno.test("settings: what is missing is named, never shown", () => {
  const good: Record<string, string> = {
    SUPABASE_URL: "https://x.supabase.co/",
    SUPABASE_DB_URL: "postgres://direct",
    SUPABASE_PUBLISHABLE_KEYS: '{"default": "sb_publishable_1", "other": "sb_publishable_2"}',
    SUPABASE_SECRET_KEYS: '{"default": "sb_secret_1"}',
    VOICEMEET_DEVICE_SECRET: SECRET,
    VOICEMEET_SIGNING_KEY: '[{"kty": "EC"}]',
    VOICEMEET_TURN_KEY_ID: "id",
    VOICEMEET_TURN_TOKEN: "hush-hush",
  };
  const read = (change: Record<string, string | undefined>): Config => {
    const all: Record<string, string | undefined> = { ...good, ...change };
    return readConfig({ get: (name) => all[name] });
  };
  assert.deepEqual(read({}).apikeys, ["sb_publishable_1", "sb_publishable_2"]);
  assert.equal(read({}).realtimeUrl, "https://x.supabase.co/realtime/v1");
  assert.equal(read({}).databaseUrl, "postgres://direct");
  assert.equal(read({ VOICEMEET_DB_URL: "postgres://pooled" }).databaseUrl, "postgres://pooled");
  assert.deepEqual(read({ SUPABASE_PUBLISHABLE_KEYS: "sb_publishable_3" }).apikeys, ["sb_publishable_3"]);
  for (
    const [name, value] of [
      ["VOICEMEET_DEVICE_SECRET", undefined],
      ["VOICEMEET_DEVICE_SECRET", "hush-hush"],
      ["VOICEMEET_SIGNING_KEY", undefined],
      ["VOICEMEET_SIGNING_KEY", "hush-hush"],
      ["VOICEMEET_TURN_TOKEN", undefined],
      ["VOICEMEET_TURN", "other"],
      ["SUPABASE_SECRET_KEYS", "{hush-hush"],
    ] as const
  ) {
    assert.throws(() => read({ [name]: value }), (error: unknown) => {
      assert.ok(error instanceof ConfigError);
      assert.ok(error.message.includes(name));
      return !error.message.includes("hush-hush");
    });
  }
});
