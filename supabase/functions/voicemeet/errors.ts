// What a verb refuses with: the contract's status and code. One rule: the sentence names nobody.

export class Refused extends Error {
  constructor(
    readonly status: number,
    readonly code: string,
    message: string,
    readonly retryAfterS?: number,
  ) {
    super(message);
  }
}

export const badToken = (message = "the token is not valid") => new Refused(401, "bad_token", message);
export const callOver = () => new Refused(410, "call_over", "this call is over");
export const unavailable = (code: string, message: string, retryAfterS: number) =>
  new Refused(503, code, message, retryAfterS);

const SENTENCES: Record<string, [number, string]> = {
  call_over: [410, "this call is over"],
  pass_needed: [403, "this pool is closed: a pass is needed"],
  pass_refused: [403, "this pass does not open this role in this pool, or was taken back"],
  proof_needed: [403, "this pool asks for a proof of the intercom key"],
  proof_refused: [403, "the proof does not fit: another intercom key"],
  pool_full: [503, "too many are waiting here"],
  refused_risk: [403, "reported too often; this wears off with time"],
  ticket_taken: [409, "this ticket is in use for something else"],
  too_many_calls: [429, "too many searches or calls of this address"],
  too_fast: [429, "too many requests, slow down"],
  bad_request: [400, "doors are called in closed pools only"],
  door_away: [404, "this door is not on line"],
  unknown_pool: [404, "there is no such pool here"],
};

/** Turn what a database function refused with into the contract's error. */
export function refusedBy(code: string, retryAfterS?: number): Refused {
  const known = SENTENCES[code];
  // A newer database may know refusals that this function does not: its own fault, asked again later.
  if (known === undefined) {
    return new Refused(500, "internal", "the backend failed; this is not your fault", 5);
  }
  return new Refused(known[0], code, known[1], retryAfterS);
}
