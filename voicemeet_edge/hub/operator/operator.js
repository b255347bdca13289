// The operator's page: doors and desks, made and taken back. Rule: the intercom key stays in this window; what
// holds it (file, line, link, code) is put together here and never sent.

import { keyCheck, parseKey } from '/desk/keystore.js';
import { toBase64url } from '/desk/sealed.js';
import { preferences } from '/desk/preferences.js';
import { language, load, t, translate } from '/desk/texts.js';
import { PassRefused, ask, forgetPass, hasPass, takeFromLink, usePass } from './api.js';
import { showFleet } from './fleet.js';
import { hideFleetKey, watchFleetKey } from './fleet_key.js';
import { makeQr, svgOf } from './qr.js';

const IDLE_MS = 15 * 60 * 1000; // an operator who walked away is signed out
const SURE_MS = 5000; // "Take back" asks once more for so long
const ROLES = { caller: 'operator.door', answerer: 'operator.desk', either: 'operator.either', operator: 'operator' };

const $ = (id) => document.getElementById(id);
const show = (id, yes) => { $(id).hidden = !yes; };
const say = (text) => { $('say').textContent = text; };

let key = ''; // text of the intercom key, while this window is open

/** Run what a click started; a fault is said on the page. */
async function attempt(work) {
  show('fault', false);
  try {
    await work();
  } catch (error) {
    if (error instanceof PassRefused) signOut();
    $('fault').textContent = error.message;
    show('fault', true);
    $('fault').scrollIntoView({ block: 'nearest' });
  }
}

async function refresh() {
  const told = await ask('passes');
  show('login', false);
  show('office', true);
  show('leave', true);
  $('pin').textContent = told.pin ? t('operator.pin', { pin: told.pin.match(/.{1,8}/g).join(' ') }) : '';
  const pools = new Set([...told.pools, ...told.passes.map((entry) => entry.pool).filter(Boolean)]);
  $('pools').replaceChildren(...[...pools].map((pool) => new Option(pool, pool)));
  if (told.pools.length && !told.pools.includes($('pool').value)) [$('pool').value] = told.pools;
  list(told.passes);
  await showFleet();
}

function list(passes) {
  const good = passes.filter((entry) => !entry.revoked_at);
  const gone = passes.filter((entry) => entry.revoked_at);
  show('none', !good.some((entry) => entry.role !== 'operator'));
  show('ends', good.length > 0);
  $('ends').tBodies[0].replaceChildren(...good.map(row));
  show('gone', gone.length > 0);
  $('gone').querySelector('ul').replaceChildren(...gone.map((entry) => {
    const item = document.createElement('li');
    item.textContent = `${entry.label || entry.id.slice(0, 8)}, ${t(ROLES[entry.role])}, ${day(entry.revoked_at)}`;
    return item;
  }));
}

function row(entry) {
  const line = document.createElement('tr');
  const name = entry.label || entry.id.slice(0, 8);
  for (const text of [name, t(ROLES[entry.role]), entry.pool || '–', day(entry.made_at)]) line.insertCell().textContent = text;
  const button = document.createElement('button');
  label(button, name, false);
  button.addEventListener('click', () => attempt(() => takeBack(button, entry, name)));
  line.insertCell().append(button);
  return line;
}

function label(button, name, isSure) {
  button.classList.toggle('sure', isSure);
  button.textContent = t(isSure ? 'operator.sure' : 'operator.take_back');
  const spoken = isSure ? `${button.textContent}: ${name}` : t('operator.take_back_name', { name });
  button.setAttribute('aria-label', spoken); // many buttons look the same, and the eye sees the line
}

/** The first click asks, the second does it. */
async function takeBack(button, entry, name) {
  if (!button.classList.contains('sure')) {
    label(button, name, true);
    setTimeout(() => label(button, name, false), SURE_MS);
    return;
  }
  await ask('revoke', { id: entry.id });
  putAway(); // what is shown may be just that
  say(t('operator.taken_back', { name }));
  await refresh();
}

const day = (at) => new Date(at * 1000).toLocaleDateString(language(), { dateStyle: 'medium' });

async function useKey(text, isNew) {
  const bytes = parseKey(text);
  key = toBase64url(bytes);
  const check = await keyCheck(bytes);
  $('key-state').textContent = t('operator.key.used', { check });
  $('key-plain').textContent = isNew ? key : '';
  show('key-shown', isNew);
  show('key-form', false);
  show('key-forget', true);
  $('key-text').value = '';
}

function forgetKey() {
  key = '';
  $('key-state').textContent = t('operator.key.none');
  $('key-plain').textContent = '';
  $('key-text').value = '';
  show('key-form', false);
  show('key-shown', false);
  show('key-forget', false);
}

async function add() {
  const role = document.querySelector('[name="role"]:checked').value;
  const name = $('name').value.trim();
  const made = await ask('passes', { role, label: name, ...(role !== 'operator' && { pool: $('pool').value }) });
  await refresh();
  present(role, name, made);
  $('name').value = '';
}

/** Show what was made, with the key in it if there is one. */
function present(role, name, made) {
  const isDoor = role === 'caller';
  const withKey = key && role !== 'operator' ? `&key=${key}` : '';
  const shown = (isDoor ? made.line : made.link) + withKey;
  const toml = isDoor ? made.settings + (key ? `\n[security]\nintercom_keys = ["${key}"]\n` : '') : '';
  $('made-title').textContent = name;
  $('made-how').textContent = t(isDoor ? 'operator.how_door' : 'operator.how_desk');
  show('made-file', isDoor);
  $('made-copy').textContent = t(isDoor ? 'operator.copy_line' : 'operator.copy_link');
  $('made-file').onclick = () => save('voicemeet.toml', toml);
  $('made-copy').onclick = () => attempt(async () => {
    await navigator.clipboard.writeText(shown);
    say(t('operator.copied'));
    $('made-copy').textContent = t('operator.copied');
  });
  $('made-text').textContent = shown;
  $('made-code').replaceChildren(svgOf(makeQr(shown), t('operator.code', { name })));
  show('made', true);
  $('made').focus();
  $('made').scrollIntoView({ block: 'start' });
}

function putAway() {
  $('made-text').textContent = '';
  $('made-code').replaceChildren();
  $('made-file').onclick = $('made-copy').onclick = null;
  show('made', false);
}

function save(name, text) {
  const link = document.createElement('a');
  link.href = URL.createObjectURL(new Blob([text], { type: 'application/toml' }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

function signOut() {
  forgetPass();
  forgetKey();
  hideFleetKey();
  putAway();
  $('ends').tBodies[0].replaceChildren();
  show('office', false);
  show('leave', false);
  show('login', true);
}

let idle;
function awake() {
  clearTimeout(idle);
  idle = setTimeout(signOut, IDLE_MS);
}

function onSubmit(id, work) {
  $(id).addEventListener('submit', (event) => {
    event.preventDefault();
    attempt(work);
  });
}

onSubmit('login', async () => {
  usePass($('operator-pass').value);
  $('operator-pass').value = '';
  await refresh();
});
onSubmit('key-form', () => useKey($('key-text').value, false));
onSubmit('add', add);
$('key-new').addEventListener('click', () => attempt(() => useKey(toBase64url(crypto.getRandomValues(new Uint8Array(32))), true)));
$('key-type').addEventListener('click', () => { show('key-form', true); $('key-text').focus(); });
$('key-forget').addEventListener('click', forgetKey);
$('made-done').addEventListener('click', putAway);
$('leave').addEventListener('click', signOut);
for (const name of ['pointerdown', 'keydown']) addEventListener(name, awake);
for (const choice of document.querySelectorAll('[name="role"]')) {
  choice.addEventListener('change', () => { $('pool').disabled = choice.value === 'operator'; });
}

takeFromLink();
awake();
await load(preferences.language);
translate(document);
$('name').placeholder = t('operator.example');
$('pool').title = t('pool.form');
forgetKey();
watchFleetKey(attempt, showFleet); // not awaited: the page is of use without
if (hasPass()) await attempt(refresh);
else show('login', true);
