// A report about the other side. Rule: it is sent until the server has it or refuses it, and the person hears which.

import { backoff, pause } from './clock.js';

const TRIES = 40; // with back-off: about a quarter of an hour of dead network

/** File a report about a call; `tell(key, values)` names the sentence that says how it stands. */
export async function sendReport(call, tell) {
  tell('report.sending');
  const waits = backoff(1_000);
  for (let tries = 0; tries < TRIES; tries += 1) {
    try {
      const { receipt } = await call.desk.verbs.ask('report', { reason: 'abuse' }, call.token);
      return tell('report.sent', { receipt });
    } catch (error) {
      if (!error.retryable) break;
      tell('report.waits');
      await pause(waits.next().value);
    }
  }
  return tell('report.failed');
}
