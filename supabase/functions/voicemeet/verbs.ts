// The verbs, apart from HTTP. One rule: what the database has decided stands; whatever fails after it is
// asked again and gets the same answer.
import { type Ask, refusal } from "./database.ts";
import { callOver, refusedBy } from "./errors.ts";
import {
  type Fields,
  matching,
  object,
  pass as readPass,
  POOL,
  PROOF,
  ringing,
  role,
  seconds,
  TICKET,
  WORD,
} from "./shapes.ts";
import {
  CALL_TTL_S,
  type CallClaims,
  DEVICE_TTL_S,
  hex,
  OLD_TOKEN_GRACE_S,
  randomHex,
  REPORT_GRACE_S,
  SHORT_PASS_DIGITS,
  type Tokens,
} from "./tokens.ts";
import type { Grant, TurnProvider } from "./turn.ts";

export const SHORT_TURN_S = 120; // enough to meet in; an allocation made in it stays
export const TURN_SLACK_S = 300; // credentials outlive the longest call: for clocks and goodbyes
const CALL_ID_BYTES = 16;

export interface Asker {
  bearer: string;
  /** A hash of the address, or null where no door stands in front. */
  address: string | null;
  /** By when an answer must be on its way, in ms of `performance.now()`. */
  until: number;
}

export interface Parts {
  ask: Ask;
  tokens: Tokens;
  turn: TurnProvider;
  /** Tell whoever listens on `wait:<ticket>` to ask again; after the answer, best effort. */
  wake(ticket: string): void;
  /** Let something go on after the answer. */
  later(work: Promise<unknown>): void;
  now(): number;
}

type Verb = (parts: Parts, body: unknown, asker: Asker) => Promise<Fields>;

export const VERBS: Record<string, Verb> = { session, match, doors, renew, leave, report, ended };

async function session({ ask, tokens, now }: Parts, body: unknown, asker: Asker): Promise<Fields> {
  const fields = object(body);
  const pass = fields.pass === undefined || fields.pass === null ? null : await passHash(fields);
  const old = asker.bearer === "" ? null : await tokens.readDevice(asker.bearer, now(), OLD_TOKEN_GRACE_S);
  const { token, device } = await tokens.makeDevice(now(), pass?.slice(0, SHORT_PASS_DIGITS));
  await checked(ask("session", { device, old: old?.device ?? null, address: asker.address, pass }));
  return { device_token: token, expires_in_s: DEVICE_TTL_S };
}

async function match(parts: Parts, body: unknown, asker: Asker): Promise<Fields> {
  const fields = object(body);
  const asked_role = role(fields);
  const ticket = matching(fields, "ticket", TICKET);
  const pool = matching(fields, "pool", POOL);
  const proof = fields.proof === undefined ? null : proofHex(matching(fields, "proof", PROOF));
  const { device, pass } = await parts.tokens.readDevice(asker.bearer, parts.now());
  const found = await parts.ask("match", {
    device,
    ticket,
    pool,
    role: asked_role,
    call_id: randomHex(CALL_ID_BYTES),
    address: asker.address,
    pass,
    proof,
    ...ringing(fields, asked_role),
    proven: proof && `voicemeet-edge v1 admission\n${asker.bearer}\n${pool}\n${asked_role}\n${ticket}`,
  });
  wakeAll(parts, found);
  const refused = refusal(found);
  if (refused) throw refused;
  if (found.status !== "matched") {
    const { poll_after_s, callers, doors, place, desks } = found;
    const wait_token = await parts.tokens.makeWait(ticket, parts.now());
    if (found.status === "ringing") {
      const calls = await Promise.all(
        (found.calls as Fields[]).map((leg) => matched(parts, leg, asker.until)),
      );
      return { status: "ringing", poll_after_s, wait_token, calls, place, desks };
    }
    const separated = found.separated === true ? true : undefined;
    return { status: "waiting", poll_after_s, wait_token, separated, callers, doors };
  }
  return await matched(parts, found, asker.until);
}

/** One side's part of a call, as the database found it. */
async function matched(parts: Parts, found: Fields, until: number): Promise<Fields> {
  const call: CallClaims = {
    callId: String(found.call_id),
    slot: found.slot === "b" ? "b" : "a",
    until: Number(found.until),
  };
  const grant = await grantFor(parts, call, found.grant as Grant | null, parts.turn.keeps, until);
  return {
    status: "matched",
    call_id: call.callId,
    slot: call.slot,
    offerer: "a",
    peer_role: found.peer_role,
    token: await parts.tokens.makeCall(call.callId, call.slot, call.until, parts.now()),
    token_ttl_s: CALL_TTL_S,
    ice_servers: grant.ice_servers,
    ttl_s: Math.max(0, Math.floor(grant.expires_at - parts.now())),
    max_call_s: Math.max(0, Math.round(call.until - parts.now())),
  };
}

async function doors(parts: Parts, body: unknown, asker: Asker): Promise<Fields> {
  const pool = matching(object(body), "pool", POOL);
  const { device, pass } = await parts.tokens.readDevice(asker.bearer, parts.now());
  const { count, doors } = await checked(parts.ask("doors", { device, pool, pass }));
  return { count, doors };
}

async function renew(parts: Parts, _body: unknown, asker: Asker): Promise<Fields> {
  const now = parts.now();
  const call = await parts.tokens.readCall(asker.bearer, now);
  if (now >= call.until) throw callOver();
  const found = await checked(parts.ask("renew", { call_id: call.callId, slot: call.slot }));
  const grant = await grantFor(
    parts,
    call,
    found.grant as Grant | null,
    parts.turn.keeps || found.heard !== false,
    asker.until,
  );
  return {
    token: await parts.tokens.makeCall(call.callId, call.slot, call.until, now),
    token_ttl_s: CALL_TTL_S,
    ice_servers: grant.ice_servers,
    ttl_s: Math.max(0, Math.floor(grant.expires_at - now)),
  };
}

async function leave(parts: Parts, body: unknown, asker: Asker): Promise<Fields> {
  const ticket = matching(object(body), "ticket", TICKET);
  const { device } = await parts.tokens.readDevice(asker.bearer, parts.now());
  wakeAll(parts, await checked(parts.ask("leave", { device, ticket })));
  return { ok: true };
}

async function report({ ask, tokens, now }: Parts, body: unknown, asker: Asker): Promise<Fields> {
  const reason = matching(object(body), "reason", WORD);
  const { callId, slot } = await tokens.readCall(asker.bearer, now(), REPORT_GRACE_S);
  const receipt = await tokens.receipt(callId, slot);
  await checked(ask("report", { call_id: callId, slot, reason, receipt, address: asker.address }));
  return { receipt };
}

async function ended(parts: Parts, body: unknown, asker: Asker): Promise<Fields> {
  const talked = Math.floor(seconds(object(body), "seconds"));
  const { callId, slot } = await parts.tokens.readCall(asker.bearer, parts.now(), REPORT_GRACE_S);
  const answer = await checked(parts.ask("ended", { call_id: callId, slot, seconds: talked }));
  if (answer.revoke) parts.later(parts.turn.revoke(answer.revoke as Grant));
  return { ok: true };
}

/**
 * The call's kept credentials while they outlive it, else new ones: to the end of the call, or short where
 * allocations outlive their credentials and it is not sure yet that both are there.
 */
async function grantFor(
  parts: Parts,
  call: CallClaims,
  kept: Grant | null,
  toTheEnd: boolean,
  until: number,
): Promise<Grant> {
  const { turn, ask, now, later } = parts;
  if (kept && kept.expires_at >= call.until) return kept;
  const expiresAt = toTheEnd ? call.until + TURN_SLACK_S : now() + SHORT_TURN_S;
  const grant = await turn.issue(call.callId, call.slot, now(), expiresAt, until - performance.now());
  if (!turn.keeps) return grant;
  const wanted = { call_id: call.callId, slot: call.slot, grant };
  const stored = (await checked(ask("keep_grant", wanted, until - performance.now()))).grant as Grant;
  if (userName(stored) !== userName(grant)) later(turn.revoke(grant));
  return stored;
}

/** What the database keeps of a pass (docs/contract.md, "Admission"). */
async function passHash(fields: Fields): Promise<string> {
  const letters = readPass(fields);
  if (letters === null) throw refusedBy("pass_refused");
  const text = new TextEncoder().encode(`voicemeet-edge v1 pass\n${letters}`);
  return hex(new Uint8Array(await crypto.subtle.digest("SHA-256", text)));
}

function proofHex(proof: string): string {
  const binary = atob(proof.replaceAll("-", "+").replaceAll("_", "/") + "=");
  return hex(Uint8Array.from(binary, (letter) => letter.charCodeAt(0)));
}

function userName(grant: Grant): string {
  return grant.ice_servers.map((server) => server.username ?? "").join(" ");
}

async function checked(asked: Promise<Fields>): Promise<Fields> {
  const answer = await asked;
  const refused = refusal(answer);
  if (refused) throw refused;
  return answer;
}

function wakeAll(parts: Parts, answer: Fields): void {
  if (!Array.isArray(answer.wake)) return;
  for (const ticket of answer.wake) if (typeof ticket === "string") parts.wake(ticket);
}
