// The door: a Worker in front of the hosted backend. It lets the six verbs and the WebSocket through and
// nothing else, counts per address, and keeps addresses to itself. One rule: what it refuses, it refuses
// before anything is billed behind it.

import { relay } from "./relay.js";

const VERBS = ["session", "match", "renew", "leave", "report", "ended"];
const VERB_PATH = "/functions/v1/voicemeet/";
const SOCKET_PATH = "/realtime/v1/websocket";
const MAX_BODY_BYTES = 16 * 1024; // the contract's
const MAX_KEY_LENGTH = 512; // characters of an apikey
const PASSED_ON = ["apikey", "authorization", "content-type"]; // headers of a verb that the function needs
const CORS = {
  "Access-Control-Allow-Headers": "apikey, authorization, content-type",
  "Access-Control-Allow-Methods": "POST, OPTIONS",
  "Access-Control-Max-Age": "86400",
};

export default {
  /**
   * @param {Request} request
   * @param {{PROJECTS: string, DOOR_SECRET?: string, ORIGIN?: string,
   *          REQUESTS: RateLimit, SOCKETS: RateLimit, JOINS?: RateLimit}} env
   */
  async fetch(request, env) {
    const cors = { ...CORS, "Access-Control-Allow-Origin": env.ORIGIN || "*" };
    try {
      return await open(request, env, cors);
    } catch {
      // Nothing of the error: it may hold the address of the project, or what was asked.
      return refuse(503, "upstream", "the backend cannot be reached", cors, 5);
    }
  },
};

async function open(request, env, cors) {
  const url = new URL(request.url);
  const place = route(url.pathname);
  if (place === null) return refuse(404, "not_found", "there is nothing here", cors);
  if (request.method === "OPTIONS" && place.verb) return new Response(null, { status: 204, headers: cors });

  const address = request.headers.get("cf-connecting-ip") ?? "";
  const counter = place.verb ? env.REQUESTS : env.SOCKETS;
  const { success } = await counter.limit({ key: counted(address) });
  if (!success) return refuse(429, "too_fast", "too many requests, slow down", cors, 10);

  const project = projectOf(env.PROJECTS, place.pool);
  if (project === null) return refuse(404, "unknown_pool", "there is no such pool here", cors);
  return place.verb
    ? await verb(request, env, cors, `${project}${VERB_PATH}${place.verb}`, address)
    : await socket(request, url, cors, `${project}${SOCKET_PATH}`, env.JOINS, counted(address));
}

/** `[/<pool>]/functions/v1/voicemeet/<verb>` or `[/<pool>]/realtime/v1/websocket`; null: nothing of ours. */
function route(path) {
  const found = /^(?:\/([a-z0-9][a-z0-9-]{0,31}))?(\/(?:functions|realtime)\/v1\/.*)$/.exec(path);
  if (found === null) return null;
  const [, pool = "", rest] = found;
  if (rest === SOCKET_PATH) return { pool, verb: "" };
  const name = rest.startsWith(VERB_PATH) ? rest.slice(VERB_PATH.length) : "";
  return VERBS.includes(name) ? { pool, verb: name } : null;
}

/** The project of a base URL: `{"": "https://<ref>.supabase.co", "<pool>": "https://<other>.supabase.co"}`. */
function projectOf(projects, pool) {
  const table = JSON.parse(projects);
  return Object.hasOwn(table, pool) ? table[pool].replace(/\/+$/, "") : null;
}

/** What is counted as one asker: an IPv4 address, or the /64 of an IPv6 one (a subscriber owns at least that). */
export function counted(address) {
  if (!address.includes(":")) return address;
  const mapped = /^::ffff:(\d+\.\d+\.\d+\.\d+)$/i.exec(address);
  if (mapped) return mapped[1];
  const [head, tail = ""] = address.split("%")[0].split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === "" ? [] : tail.split(":");
  const groups = address.includes("::")
    ? [...left, ...Array(Math.max(0, 8 - left.length - right.length)).fill("0"), ...right]
    : left;
  return groups.slice(0, 4).map((group) => parseInt(group, 16).toString(16)).join(":");
}

async function verb(request, env, cors, target, address) {
  if (request.method !== "POST") {
    return refuse(405, "method_not_allowed", "verbs are POSTed", { ...cors, Allow: "POST" });
  }
  const body = await read(request);
  if (body === null) return refuse(413, "too_large", `a body has at most ${MAX_BODY_BYTES} bytes`, cors);
  const headers = new Headers();
  for (const name of PASSED_ON) {
    const value = request.headers.get(name);
    if (value !== null) headers.set(name, value);
  }
  if (env.DOOR_SECRET) {
    // Only the function reads these, and it keeps of the address an HMAC with a daily salt.
    headers.set("x-voicemeet-door", env.DOOR_SECRET);
    headers.set("x-voicemeet-address", counted(address));
  }
  const answer = await fetch(target, { method: "POST", headers, body, redirect: "manual" });
  if (answer.status >= 300 && answer.status < 400) throw new Error("a redirect");
  const kept = new Headers(cors);
  for (const name of ["content-type", "retry-after"]) {
    const value = answer.headers.get(name);
    if (value !== null) kept.set(name, value);
  }
  kept.set("cache-control", "no-store");
  return new Response(answer.body, { status: answer.status, headers: kept });
}

async function socket(request, url, cors, target, joins, address) {
  if (request.headers.get("upgrade")?.toLowerCase() !== "websocket") {
    return refuse(400, "bad_request", "this is a WebSocket", cors);
  }
  const query = new URLSearchParams();
  for (const name of ["apikey", "vsn"]) {
    const value = url.searchParams.get(name);
    if (value !== null && value.length <= MAX_KEY_LENGTH) query.set(name, value);
  }
  const answer = await fetch(`${target}?${query}`, { headers: { Upgrade: "websocket" }, redirect: "manual" });
  // Without a limit of joins it is handed through as it is: the Worker sees no frame, and none costs it anything.
  if (joins === undefined || !answer.webSocket) return answer;
  return relay(answer.webSocket, () => joins.limit({ key: address }));
}

/** The body, or null when it is longer than any honest one; never more of it in memory than that. */
async function read(request) {
  if (Number(request.headers.get("content-length") ?? 0) > MAX_BODY_BYTES) return null;
  const chunks = [];
  let size = 0;
  for await (const chunk of request.body ?? []) {
    size += chunk.length;
    if (size > MAX_BODY_BYTES) return null;
    chunks.push(chunk);
  }
  return new Blob(chunks).arrayBuffer();
}

function refuse(status, code, message, headers, retryAfterS) {
  const error = retryAfterS === undefined ? { code, message } : { code, message, retry_after_s: retryAfterS };
  const retry = retryAfterS === undefined ? {} : { "Retry-After": String(retryAfterS) };
  return Response.json({ error }, { status, headers: { ...headers, ...retry, "Cache-Control": "no-store" } });
}
