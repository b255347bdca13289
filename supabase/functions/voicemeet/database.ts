// The database behind the verbs. One rule: one statement and one way there and back for a verb, no state of a
// session, and whatever goes wrong there is "503, nothing was stored, ask again".
// @ts-types="@types/pg"
import pg from "pg";
import { type Refused, refusedBy, unavailable } from "./errors.ts";

export type Answer = Record<string, unknown>;
/** `withinMs`: how long the whole may take, at most TIMEOUT_MS. */
export type Ask = (verb: string, input: Answer, withinMs?: number) => Promise<Answer>;

const CONNECTIONS = 8; // per worker, or the database idles while JavaScript works; the smallest plan's pooler takes 200
const TIMEOUT_MS = 4_000; // the device may ask again after 3 s, and gives up after 8 s
const IDLE_MS = 60_000;
const VERBS = new Set(["session", "match", "doors", "leave", "keep_grant", "renew", "ended", "report"]);

export class Database {
  private readonly pool: pg.Pool;

  constructor(url: string) {
    this.pool = new pg.Pool({
      connectionString: asLibpq(url),
      max: CONNECTIONS,
      connectionTimeoutMillis: TIMEOUT_MS,
      idleTimeoutMillis: IDLE_MS,
      keepAlive: true,
    });
    // A kept connection that the other side closed: the pool opens another, and nobody waited for this one.
    this.pool.on("error", () => {});
  }

  /** Run one verb's function and return its answer, or throw what it refused with. */
  ask: Ask = async (verb, input, withinMs = TIMEOUT_MS) => {
    if (!VERBS.has(verb)) throw new Error("no such function");
    const limitMs = Math.max(1, Math.min(TIMEOUT_MS, withinMs));
    let rows: Answer[];
    let timer: ReturnType<typeof setTimeout> | undefined;
    try {
      // No name: a transaction pooler hands each transaction another connection, which knows no statement.
      // A query that is late ends its connection, and with it its transaction.
      const query = this.pool.query({
        text: `select voicemeet.${verb}($1::text::jsonb) as answer`,
        values: [JSON.stringify(input)],
        query_timeout: limitMs,
      } as pg.QueryConfig);
      const late = new Promise<never>((_, reject) => {
        timer = setTimeout(() => reject(new Error("timeout")), limitMs);
      });
      query.catch(() => {}); // when it is late, nobody waits for it any more
      ({ rows } = await Promise.race([query, late]));
    } catch (error) {
      // The code only: a message of the database may hold the values.
      const code = (error as { code?: unknown })?.code;
      console.error(`the database failed (${typeof code === "string" ? code : "no answer"})`);
      throw unavailable("storage", "the backend's database does not answer", 5);
    } finally {
      clearTimeout(timer);
    }
    const answer = rows[0]?.answer;
    if (typeof answer !== "object" || answer === null) throw new Error("no answer");
    return answer as Answer;
  };
}

/** In an address `sslmode` means what Postgres' own clients mean: `require` encrypts and checks no name. */
function asLibpq(url: string): string {
  return url.includes("sslmode=") ? `${url}&uselibpqcompat=true` : url;
}

/** The refusal in an answer, if it is one. */
export function refusal(answer: Answer): Refused | null {
  if (typeof answer.error !== "string") return null;
  const retry = answer.retry_after_s;
  return refusedBy(answer.error, typeof retry === "number" ? retry : undefined);
}
