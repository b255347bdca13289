// The fleet key of this browser: made, typed, kept and forgotten here. Rule: what is kept opens seals and cannot be
// read again, not even by this page (IndexedDB holds a CryptoKey that is not extractable).

import { isMade } from '/desk/keystore.js';
import { t } from '/desk/texts.js';
import { makeFleetKey, parseFleetKey } from './fleet_seal.js';

const DATABASE = 'voicemeet-operator', STORE = 'fleet';
const HELD_MS = 2_000; // a page that was just left may still hold the store, and for ever
const $ = (id) => document.getElementById(id);

function settled(request) {
  return new Promise((resolve, reject) => {
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error);
  });
}

async function within(mode, work) {
  const opening = indexedDB.open(DATABASE, 1);
  opening.onupgradeneeded = () => opening.result.createObjectStore(STORE);
  const database = await settled(opening);
  try {
    return await settled(work(database.transaction(STORE, mode).objectStore(STORE)));
  } finally {
    database.close();
  }
}

/** The key kept here: {private, public}, or undefined; a browser that keeps nothing, or holds it back, has none. */
export function fleetKey() {
  const late = new Promise((resolve) => setTimeout(resolve, HELD_MS));
  return Promise.race([kept().catch(() => undefined), late]);
}

const kept = async () => ((await isMade(DATABASE)) ? within('readonly', (store) => store.get('key')) : undefined);

async function use(key, text) {
  await within('readwrite', (store) => store.put(key, 'key'));
  await show(text);
}

/** Show whether there is a key, and the one just made, once. */
async function show(made = '') {
  const key = await fleetKey();
  $('fleet-key-state').textContent = t(key ? 'fleet.key.used' : 'fleet.key.unset');
  $('fleet-key-lines').textContent = key ? `[status]\nfleet = true\nfleet_key = "${key.public}"` : '';
  $('fleet-key-lines').hidden = !key;
  $('fleet-key-plain').textContent = made;
  $('fleet-key-shown').hidden = made === '';
  $('fleet-key-forget').hidden = !key;
  $('fleet-key-text').value = '';
  $('fleet-key-form').hidden = true;
}

/** Let the buttons work; `attempt` tells faults, `changed` shows the list anew. */
export async function watchFleetKey(attempt, changed) {
  const on = (id, event, work) => $(id).addEventListener(event, (happened) => {
    happened.preventDefault();
    attempt(async () => { await work(); await changed(); });
  });
  on('fleet-key-new', 'click', async () => { const { key, text } = await makeFleetKey(); await use(key, text); });
  on('fleet-key-form', 'submit', async () => use(await parseFleetKey($('fleet-key-text').value)));
  on('fleet-key-forget', 'click', async () => { await within('readwrite', (store) => store.delete('key')); await show(); });
  $('fleet-key-type').addEventListener('click', () => { $('fleet-key-form').hidden = false; $('fleet-key-text').focus(); });
  await show();
}

/** Take what was shown once off the page. */
export function hideFleetKey() {
  $('fleet-key-plain').textContent = $('fleet-key-text').value = '';
  $('fleet-key-shown').hidden = $('fleet-key-form').hidden = true;
}
