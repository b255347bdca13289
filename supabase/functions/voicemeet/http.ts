// HTTP around the verbs. One rule: whatever arrives, the answer is small, clear, in the contract's shape and
// says nothing about anybody; nothing is logged that identifies anyone.
import { Refused } from "./errors.ts";
import type { Config } from "./config.ts";
import type { Asker, Parts } from "./verbs.ts";
import { VERBS } from "./verbs.ts";

export const MAX_REQUEST_BYTES = 16 * 1024;
const BODY_TIMEOUT_MS = 10_000;
// For the database, the TURN API and the database again, all together: a device that doubts its idle connection
// asks again after 3 s, and gives up after 8 s in all.
export const ANSWER_WITHIN_MS = 4_000;
const DOOR_HEADER = "x-voicemeet-door";
const ADDRESS_HEADER = "x-voicemeet-address";

type Handler = (request: Request) => Promise<Response>;

export function makeHandler(config: Config, parts: Parts): Handler {
  const cors = {
    "Access-Control-Allow-Origin": config.origin,
    "Access-Control-Allow-Headers": "apikey, authorization, content-type",
    "Access-Control-Allow-Methods": "POST, OPTIONS",
    "Access-Control-Max-Age": "86400",
  };
  const headers = { ...cors, "Content-Type": "application/json", "Cache-Control": "no-store" };

  const refuse = (refused: Refused, extra: Record<string, string> = {}) => {
    const error: Record<string, unknown> = { code: refused.code, message: refused.message };
    const retry: Record<string, string> = {};
    if (refused.retryAfterS !== undefined) {
      error.retry_after_s = refused.retryAfterS;
      retry["Retry-After"] = String(Math.ceil(refused.retryAfterS)); // whole seconds, never too early
    }
    return new Response(JSON.stringify({ error }), {
      status: refused.status,
      headers: { ...headers, ...retry, ...extra },
    });
  };

  return async (request) => {
    try {
      const path = new URL(request.url).pathname.replace(/^(\/functions\/v1)?\/voicemeet(?=\/|$)/, "");
      const verb = Object.hasOwn(VERBS, path.slice(1)) ? VERBS[path.slice(1)] : undefined;
      if (verb === undefined) throw new Refused(404, "unknown_verb", "there is no such verb");
      if (request.method === "OPTIONS") return new Response(null, { status: 204, headers: cors });
      if (request.method !== "POST") {
        return refuse(new Refused(405, "method_not_allowed", "verbs are POSTed"), { Allow: "POST" });
      }
      const fromDoor = isSame(request.headers.get(DOOR_HEADER) ?? "", config.doorSecret);
      if (config.doorSecret !== "" && !fromDoor) {
        throw new Refused(401, "bad_apikey", "this backend is asked through its door only");
      }
      checkApikey(request.headers.get("apikey") ?? "", config.apikeys);
      const body = parse(await read(request));
      const until = performance.now() + ANSWER_WITHIN_MS;
      const asker: Asker = { bearer: bearer(request), address: null, until };
      const address = fromDoor ? request.headers.get(ADDRESS_HEADER) : null;
      if (address) asker.address = await addressKey(parts, address);
      return new Response(JSON.stringify(await verb(parts, body, asker)), { headers });
    } catch (error) {
      if (error instanceof Refused) return refuse(error);
      // A fault of ours; its text may hold what nobody may log.
      console.error(`a verb failed: ${(error as Error)?.name ?? "unknown"}`);
      return refuse(new Refused(500, "internal", "the backend failed; this is not your fault", 5));
    }
  };
}

/** An address only ever becomes this: an HMAC that changes each day. */
function addressKey(parts: Parts, address: string): Promise<string> {
  const day = Math.floor(parts.now() / 86_400);
  return parts.tokens.hash("address", `${day} ${address.slice(0, 64)}`);
}

function checkApikey(given: string, known: string[]): void {
  for (const key of known) if (isSame(given, key)) return;
  throw new Refused(401, "bad_apikey", "the apikey header is missing or not ours");
}

/** Compare in a time that tells the secret's length and nothing else of it; empty is never right. */
export function isSame(given: string, wanted: string): boolean {
  if (wanted === "" || given.length !== wanted.length) return false;
  let difference = 0;
  for (let i = 0; i < wanted.length; i++) difference |= given.charCodeAt(i) ^ wanted.charCodeAt(i);
  return difference === 0;
}

function bearer(request: Request): string {
  const [scheme, token] = (request.headers.get("authorization") ?? "").split(/ (.*)/s);
  return scheme?.toLowerCase() === "bearer" ? (token ?? "").trim() : "";
}

const tooLarge = () => new Refused(413, "too_large", `a body has at most ${MAX_REQUEST_BYTES} bytes`);

async function read(request: Request): Promise<string> {
  const said = request.headers.get("content-length");
  if (Number(said ?? 0) > MAX_REQUEST_BYTES) throw tooLarge();
  if (request.body === null) return "";
  let timer: ReturnType<typeof setTimeout> | undefined;
  const late = new Promise<never>((_, reject) => {
    timer = setTimeout(
      () => reject(new Refused(408, "body_timeout", "the body did not arrive in time")),
      BODY_TIMEOUT_MS,
    );
  });
  late.catch(() => {});
  // No more bytes than the header says can come, so then they are read in one go, which costs less. Beside
  // `transfer-encoding` it says nothing: the platform's Deno takes both, and reads on.
  const isCounted = said !== null && !request.headers.has("transfer-encoding");
  const whole = isCounted ? request.arrayBuffer() : readChunks(request.body);
  whole.catch(() => {}); // when it is late, nobody waits for it any more
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(await Promise.race([whole, late]));
  } catch (error) {
    if (error instanceof TypeError) throw new Refused(400, "bad_json", "the body is not UTF-8");
    throw error;
  } finally {
    clearTimeout(timer);
  }
}

async function readChunks(body: ReadableStream<Uint8Array>) {
  const whole = new Uint8Array(MAX_REQUEST_BYTES);
  let size = 0;
  for await (const chunk of body) {
    if (size + chunk.length > MAX_REQUEST_BYTES) throw tooLarge();
    whole.set(chunk, size);
    size += chunk.length;
  }
  return whole.subarray(0, size);
}

function parse(text: string): unknown {
  if (text === "") return {};
  try {
    return JSON.parse(text);
  } catch {
    throw new Refused(400, "bad_json", "the body is not JSON");
  }
}
