// The verbs of wire contract version 1 (docs/contract.md), as seen from a browser.

const TIMEOUT_MS = 8_000; // a verb is answered in milliseconds; a dead server must not hold the desk

/** A verb failed: `code` is the contract's word, `status` 0 when there was no answer at all. */
export class VerbError extends Error {
  constructor(code, status, retryAfterS = null) {
    super(code);
    Object.assign(this, { code, status, retryAfterS });
  }

  get retryable() {
    return this.status < 400 || this.status >= 500 || this.status === 408 || this.status === 429;
  }
}

export class Verbs {
  constructor(base, apikey) {
    this.base = base.replace(/\/$/, '');
    this.apikey = apikey;
  }

  /** Ask for a verb; `token` is the device token or the call's. */
  async ask(verb, body, token = null, { keepalive = false } = {}) {
    const headers = { 'content-type': 'application/json', apikey: this.apikey };
    if (token) headers.authorization = `Bearer ${token}`;
    let response;
    let answer = {};
    try {
      response = await fetch(`${this.base}/${verb}`, {
        method: 'POST',
        headers,
        body: JSON.stringify(body ?? {}),
        cache: 'no-store',
        credentials: 'omit',
        keepalive,
        redirect: 'error',
        referrerPolicy: 'no-referrer',
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      answer = await response.json();
    } catch {
      if (!response || response.ok) throw new VerbError('unreachable', 0);
    }
    if (response.ok && answer && typeof answer === 'object') return answer;
    const error = answer?.error ?? {};
    throw new VerbError(String(error.code ?? 'backend'), response.status, Number(error.retry_after_s) || null);
  }
}

/** 128 random bits for a ticket, in base64url. */
export function newTicket() {
  const bytes = crypto.getRandomValues(new Uint8Array(16));
  return btoa(String.fromCharCode(...bytes)).replaceAll('+', '-').replaceAll('/', '_').replaceAll('=', '');
}
