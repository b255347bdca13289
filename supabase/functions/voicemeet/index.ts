// VoiceMeet's Edge Function: the verbs of docs/contract.md on Supabase. This file only wires.
import { ConfigError, readConfig } from "./config.ts";
import { Database } from "./database.ts";
import { Refused } from "./errors.ts";
import { makeHandler } from "./http.ts";
import { makeWake } from "./push.ts";
import { Tokens } from "./tokens.ts";
import { makeTurn } from "./turn.ts";

declare const EdgeRuntime: { waitUntil(work: Promise<unknown>): void } | undefined;

/** The platform ends a worker once it has answered, unless it is told what still runs. */
function later(work: Promise<unknown>): void {
  const safe = work.catch(() => console.warn("something after the answer failed"));
  if (typeof EdgeRuntime !== "undefined") EdgeRuntime.waitUntil(safe);
}

async function start(): Promise<(request: Request) => Promise<Response>> {
  const config = readConfig(Deno.env);
  const database = new Database(config.databaseUrl);
  return makeHandler(config, {
    ask: database.ask,
    tokens: await Tokens.make(config),
    turn: makeTurn(config.turn),
    wake: makeWake(config.realtimeUrl, config.secretKey, later),
    later,
    now: () => Date.now() / 1000,
  });
}

let starting: Promise<(request: Request) => Promise<Response>> | undefined;

export default {
  async fetch(request: Request): Promise<Response> {
    try {
      starting ??= start();
      return await (await starting)(request);
    } catch (error) {
      starting = undefined; // a secret set meanwhile is seen at the next request
      console.error(error instanceof ConfigError ? error.message : "the function cannot start");
      const refused = new Refused(503, "misconfigured", "this backend is not set up yet", 30);
      const body = {
        error: { code: refused.code, message: refused.message, retry_after_s: refused.retryAfterS },
      };
      return Response.json(body, { status: refused.status, headers: { "Retry-After": "30" } });
    }
  },
};
