// What the page asks the hub. Rule: every request shows the pass; it is kept for this tab only, and nowhere else.

import { has, t } from '/desk/texts.js';

const KEPT = 'voicemeet-operator';

let pass = sessionStorage.getItem(KEPT) ?? '';

/** The pass opens nothing (any more): the page has to ask for one. */
export class PassRefused extends Error {}

export const hasPass = () => pass !== '';

export function usePass(text) {
  pass = text.replace(/[\s-]/g, '');
  sessionStorage.setItem(KEPT, pass);
}

export function forgetPass() {
  pass = '';
  sessionStorage.removeItem(KEPT);
}

/** Take the pass that the link's fragment brought, and take it out of the address. */
export function takeFromLink() {
  const brought = new URLSearchParams(location.hash.slice(1)).get('pass');
  if (!brought) return;
  history.replaceState(null, '', location.pathname);
  usePass(brought);
}

/** GET without a body, POST with one; throws an Error with a sentence for people. */
export async function ask(what, body) {
  if (/[^\x21-\x7e]/.test(pass)) throw new PassRefused(t('operator.refused')); // fits into no header: fetch would call it a dead network
  let answer;
  try {
    answer = await fetch(`api/${what}`, {
      method: body ? 'POST' : 'GET',
      headers: { authorization: `Bearer ${pass}`, ...(body && { 'content-type': 'application/json' }) },
      body: body && JSON.stringify(body),
      cache: 'no-store',
    });
  } catch {
    throw new Error(t('operator.silent'));
  }
  const told = await answer.json().catch(() => ({}));
  if (answer.ok) return told;
  if (answer.status === 401) throw new PassRefused(t('operator.refused'));
  throw new Error(sentence(told.error) ?? t('operator.answered', { status: answer.status }));
}

/** What the hub refused, in the person's language; what no catalogue has is better in English than unsaid. */
function sentence({ code, message } = {}) {
  const key = `slip.${code}`;
  if (has(key)) return t(key);
  return message && `${message[0].toUpperCase()}${message.slice(1)}.`;
}
