// TURN credentials. One rule: they are made for one slot of one call and name nobody; the provider's own
// token never leaves the function.
import { unavailable } from "./errors.ts";
import type { TurnConfig } from "./config.ts";
import { hex } from "./tokens.ts";
import type { Slot } from "./shapes.ts";

// A device that doubts its idle connection asks again after 3 s and gives up after 8 s: it is to hear of this.
export const API_TIMEOUT_MS = 4_000;
export const MAX_ANSWER_BYTES = 32 * 1024; // the documented answer has about 1 kB
const MAX_TTL_S = 172_800; // 48 h, the documented limit
const MIN_TTL_S = 60; // less would expire on the way
const MAX_SERVERS = 8;
const MAX_URLS = 12;
const MAX_TEXT = 512;
const BLOCKED_PORT = ":53?"; // Cloudflare offers port 53; browsers and many providers block it

export interface IceServer {
  urls: string[];
  username?: string;
  credential?: string;
}

export interface Grant {
  ice_servers: IceServer[];
  /** Unix seconds. */
  expires_at: number;
}

export interface TurnProvider {
  /** Whether credentials are worth keeping: made by an API, and to be given back. */
  readonly keeps: boolean;
  /** `withinMs`: how long it may take, at most API_TIMEOUT_MS. */
  issue(callId: string, slot: Slot, now: number, expiresAt: number, withinMs?: number): Promise<Grant>;
  revoke(grant: Grant): Promise<void>;
}

const encoder = new TextEncoder();
const down = (message: string) => unavailable("turn_unavailable", message, 2);

export function makeTurn(config: TurnConfig): TurnProvider {
  switch (config.provider) {
    case "hmac":
      return new HmacTurn(config.secret, config.urls);
    case "cloudflare":
      return new CloudflareTurn(config.api, config.keyId, config.token);
    case "off":
      return {
        keeps: false,
        issue: (_callId, _slot, _now, expiresAt) =>
          Promise.resolve({ ice_servers: [], expires_at: expiresAt }),
        revoke: () => Promise.resolve(),
      };
  }
}

/** base64(HMAC-SHA1(secret, username)), draft-uberti-behave-turn-rest-00 section 2.2. */
export async function turnPassword(secret: string, username: string): Promise<string> {
  const raw = encoder.encode(secret);
  const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-1" }, false, ["sign"]);
  const digest = await crypto.subtle.sign("HMAC", key, encoder.encode(username));
  return btoa(String.fromCharCode(...new Uint8Array(digest)));
}

/** The user part is the same at each renewal of a slot, so coturn's quota counts it. */
export async function turnUsername(
  secret: string,
  callId: string,
  slot: Slot,
  expiresAt: number,
): Promise<string> {
  const raw = encoder.encode(secret);
  const key = await crypto.subtle.importKey("raw", raw, { name: "HMAC", hash: "SHA-256" }, false, ["sign"]);
  const digest = await crypto.subtle.sign("HMAC", key, encoder.encode(`user ${callId} ${slot}`));
  return `${Math.floor(expiresAt)}:${hex(new Uint8Array(digest).subarray(0, 12))}`;
}

class HmacTurn implements TurnProvider {
  readonly keeps = false;
  constructor(private readonly secret: string, private readonly urls: string[]) {}

  async issue(callId: string, slot: Slot, _now: number, expiresAt: number): Promise<Grant> {
    const username = await turnUsername(this.secret, callId, slot, expiresAt);
    const credential = await turnPassword(this.secret, username);
    const turn = this.urls.filter((url) => !url.startsWith("stun"));
    const stun = this.urls.filter((url) => url.startsWith("stun"));
    const servers: IceServer[] = stun.length > 0 ? [{ urls: stun }] : [];
    return {
      ice_servers: [...servers, { urls: turn, username, credential }],
      expires_at: Math.floor(expiresAt),
    };
  }

  revoke(): Promise<void> {
    return Promise.resolve(); // coturn has no way to; its quota and the call's own end bound the harm
  }
}

class CloudflareTurn implements TurnProvider {
  readonly keeps = true;
  private readonly base: string;

  constructor(api: string, keyId: string, private readonly token: string) {
    this.base = `${api.replace(/\/+$/, "")}/v1/turn/keys/${encodeURIComponent(keyId)}/credentials`;
  }

  async issue(
    _callId: string,
    _slot: Slot,
    now: number,
    expiresAt: number,
    withinMs = API_TIMEOUT_MS,
  ): Promise<Grant> {
    const ttl = Math.max(MIN_TTL_S, Math.min(MAX_TTL_S, Math.floor(expiresAt - now)));
    const { status, text } = await this.post("generate-ice-servers", { ttl }, withinMs);
    if (status !== 200 && status !== 201) {
      console.warn(`the TURN API answered ${status}`);
      throw down("the TURN API refused");
    }
    return { ice_servers: parseCloudflare(text), expires_at: now + ttl };
  }

  async revoke(grant: Grant): Promise<void> {
    const names = new Set(grant.ice_servers.map((server) => server.username ?? ""));
    for (const name of names) {
      // Only names that cannot change the path they are put into.
      if (!/^[A-Za-z0-9]+$/.test(name)) continue;
      try {
        const { status } = await this.post(`${name}/revoke`);
        if (status !== 204 && status !== 200) {
          console.warn(`a TURN credential could not be revoked (${status})`);
        }
      } catch {
        console.warn("a TURN credential could not be revoked");
      }
    }
  }

  private async post(
    path: string,
    body?: unknown,
    withinMs = API_TIMEOUT_MS,
  ): Promise<{ status: number; text: string }> {
    try {
      const response = await fetch(`${this.base}/${path}`, {
        method: "POST",
        headers: { Authorization: `Bearer ${this.token}`, "Content-Type": "application/json" },
        body: body === undefined ? undefined : JSON.stringify(body),
        redirect: "error",
        signal: AbortSignal.timeout(Math.max(1, Math.min(API_TIMEOUT_MS, withinMs))),
      });
      return { status: response.status, text: await readText(response, MAX_ANSWER_BYTES) };
    } catch {
      throw down("the TURN API cannot be reached");
    }
  }
}

async function readText(response: Response, limit: number): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  let size = 0;
  for await (const chunk of response.body ?? []) {
    size += chunk.length;
    if (size > limit) throw new Error("too large");
    text += decoder.decode(chunk, { stream: true });
  }
  return text + decoder.decode();
}

/** `iceServers` is a list in the new answer and one object in the old. */
export function parseCloudflare(text: string): IceServer[] {
  const broken = () => down("the TURN API's answer is out of shape");
  let listed: unknown;
  try {
    listed = JSON.parse(text)?.iceServers;
  } catch {
    throw broken();
  }
  const entries: unknown[] = Array.isArray(listed) ? listed : [listed];
  if (entries.length === 0 || entries.length > MAX_SERVERS) throw broken();
  const servers: IceServer[] = [];
  for (const entry of entries) {
    if (typeof entry !== "object" || entry === null) throw broken();
    const { urls, username, credential } = entry as Record<string, unknown>;
    const all: unknown[] = Array.isArray(urls) ? urls : [urls];
    const short = (value: unknown): value is string =>
      typeof value === "string" && value.length > 0 && value.length <= MAX_TEXT;
    if (all.length === 0 || all.length > MAX_URLS || !all.every(short)) throw broken();
    const kept = (all as string[]).filter((url) => !`${url}?`.includes(BLOCKED_PORT));
    if (kept.length === 0) continue;
    if (username === undefined && credential === undefined) servers.push({ urls: kept });
    else if (short(username) && short(credential)) servers.push({ urls: kept, username, credential });
    else throw broken();
  }
  if (!servers.some((server) => server.username)) throw broken();
  return servers;
}
