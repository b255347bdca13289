// What the page says, in the person's language. Rule: no sentence stands anywhere but in the catalogues,
// <language>.json, which a device shares (voicemeet_edge/languages).

import { backoff, pause } from './clock.js';

export const LANGUAGES = ['en', 'de', 'fr', 'es', 'it'];

let sentences = {};
let chosen = 'en';
let plurals = new Intl.PluralRules('en');

/** The first of the browser's languages that there is a catalogue for. */
export function browserLanguage(wanted = navigator.languages) {
  const bare = wanted.map((one) => one.split('-')[0].toLowerCase());
  return bare.find((one) => LANGUAGES.includes(one)) ?? 'en';
}

/** Fetch the sentences of a language, as often as it takes: without them the page can say nothing. */
export async function load(wanted) {
  const next = LANGUAGES.includes(wanted) ? wanted : browserLanguage();
  for (const waitMs of backoff()) {
    try {
      const response = await fetch(new URL(`${next}.json`, import.meta.url)); // the operator's page asks, too
      if (response.ok) {
        sentences = await response.json();
        break;
      }
    } catch {
      // The server went away between the page and its sentences: it comes back.
    }
    await pause(waitMs);
  }
  chosen = next;
  plurals = new Intl.PluralRules(next);
  document.documentElement.lang = next;
}

export const language = () => chosen;
export const has = (key) => Object.hasOwn(sentences, key);

/** The sentence `key` with its values filled in. */
export function t(key, values = {}) {
  return (sentences[key] ?? key).replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** A sentence about a number of things. */
export function count(key, n, values = {}) {
  const form = plurals.select(n) === 'one' ? 'one' : 'other';
  return t(`${key}.${form}`, { n, ...values });
}

/** Fill in all elements below `root` that name their sentence. */
export function translate(root) {
  for (const element of root.querySelectorAll('[data-t]')) element.textContent = t(element.dataset.t);
  for (const element of root.querySelectorAll('[data-label]')) {
    element.setAttribute('aria-label', t(element.dataset.label));
  }
}

/** A time of day, as people of this language write it. */
export function timeOfDay(date) {
  return new Intl.DateTimeFormat(chosen, { hour: '2-digit', minute: '2-digit' }).format(date);
}

/** How long ago something was, in minutes or hours. */
export function ago(ms) {
  const minutes = Math.floor(ms / 60_000);
  if (minutes < 1) return t('now');
  const format = new Intl.RelativeTimeFormat(chosen, { numeric: 'always' });
  return minutes < 60 ? format.format(-minutes, 'minute') : format.format(-Math.floor(minutes / 60), 'hour');
}
