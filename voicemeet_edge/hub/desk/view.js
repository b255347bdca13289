// What the page shows. Rule: one function of the model; nothing here decides anything, and every sentence comes
// from the catalogue.
//
// The model: state, pool, role, keys, pass, refusal, silent, silentCallers, canReport, report ([key, values]),
// doors (how many are on line, null when not told), doorList ([{door, name}]), waiting (callers that wait meanwhile),
// missed ({count, at, name} or null), mismatch (a reason, until it was seen), away (null or {until} or {hours}),
// last (the call that ended), testing (a test of the sound holds the microphone), and call: phase, name, peerRings, announce, words, unchecked, warned, microphoneOpen,
// muted, door (null, or {state, reason} of a door that can be opened).

import { hidesSizes } from './media.js';
import { KINDS } from './reasons.js';
import { ago, count, has, t, timeOfDay } from './texts.js';
import { numbers } from './words.js';

const $ = (id) => document.getElementById(id);

const ICONS = {
  setup: 'door', asking: 'microphone', insecure: 'warning', offline: 'cloud', refused: 'warning',
  microphone_denied: 'microphone', microphone_missing: 'microphone', microphone_busy: 'microphone',
  ready: 'bell', ready_no_doors: 'warning', ready_caller: 'phone', disturb: 'bell-off', rings_there: 'bell',
  ringing: 'bell', talking: 'phone', unproved: 'phone', announcing: 'megaphone', unchecked: 'warning',
  reconnecting: 'cloud', ended: 'phone-down', elsewhere: 'phone',
};
const OFF_DUTY = ['setup', 'insecure'];
const WAITING = ['ready', 'offline', 'refused', 'starting', 'disturb'];
const NO_MICROPHONE = ['microphone_denied', 'microphone_missing', 'microphone_busy'];
const NO_COUNT = ['ready_no_doors', 'disturb'];

const isDistrust = (reason) => KINDS[reason] === 'distrust';
const KEYS_DIFFER = ['peer_not_sealed', 'peer_sealed', 'wrong_key'];

/** Why a call ended, by our word or the other side's. */
export function reasonText({ reason, byPeer }) {
  const known = has(`end.${reason}`) ? reason : isDistrust(reason) ? 'distrust' : 'failed';
  return t(`end.${known}${byPeer ? '.peer' : ''}`);
}

export function show(model) {
  const { state, call } = model;
  const looks = looksOf(model);
  const distrust = state === 'ended' && isDistrust(model.last?.reason);
  const name = (state === 'ended' ? model.last?.name : call?.name) ?? null;
  const headline = t(distrust ? 'state.distrust' : `state.${looks}`);
  const told = ['unchecked', 'elsewhere'].includes(looks) ? looks : state;
  document.body.dataset.state = distrust ? 'distrust' : told;
  document.body.dataset.warns = looks === 'ready_no_doors'; // it would ring: ready all the same
  // A door with a name is what the person wants to read first; the state stands above it.
  $('headline').textContent = name ?? headline;
  $('kicker').hidden = !name;
  $('kicker').textContent = name ? headline : '';
  $('sentence').textContent = sentenceOf(model, looks);
  $('icon').setAttribute('href', `#icon-${distrust ? 'warning' : (ICONS[looks] ?? 'dots')}`);
  const line = state === 'ringing' && name ? t('named.calling', { name }) : name ? `${name}: ${headline}` : headline;
  document.title = `${state === 'ringing' ? '(1) ' : ''}${line} · ${t('app.name')}`;
  showButtons(model);
  showBeside(model, looks);
  showCall(model);
  showSetup(model);
  announce(state, `${line}. ${$('sentence').textContent}`);
}

/** How a state is to be shown. */
function looksOf({ state, role, call, doors, last }) {
  if (state === 'calling' && call?.peerRings) return 'rings_there';
  if (state === 'ready' && role !== 'answerer') return 'ready_caller';
  if (state === 'ready' && doors === 0) return 'ready_no_doors';
  if (state === 'ended' && last?.reason === 'answered_elsewhere') return 'elsewhere';
  if (state === 'talking' && call?.announce) return 'announcing';
  if (state !== 'talking' || call?.words) return state;
  return call?.unchecked ? 'unchecked' : 'unproved';
}

function sentenceOf({ state, last, refusal, pool, silentCallers, away }, looks) {
  if (looks === 'ended') return reasonText(last);
  if (state === 'offline' && has(`offline.${refusal}`)) return t(`offline.${refusal}`);
  if (state === 'refused' && has(`refusal.${refusal}`)) return t(`refusal.${refusal}`, { pool });
  if (looks === 'ready' && silentCallers > 1) return t('silent_callers');
  if (state === 'disturb' && away?.until) return t('state.disturb.until', { time: timeOfDay(away.until) });
  if (state === 'disturb' && away?.hours) return t('state.disturb.hours', away.hours);
  return t(`state.${looks}.more`, { pool });
}

function showButtons({ state, role, call, canReport, away }) {
  const inCall = Boolean(call) && call.phase !== 'arriving';
  const talking = ['talking', 'reconnecting'].includes(state);
  $('answer').hidden = state !== 'ringing';
  $('call').hidden = !(state === 'ready' && role !== 'answerer');
  $('hangup').hidden = !inCall && state !== 'seeking';
  const word = { ringing: 'decline', seeking: 'stop_looking', calling: 'stop_calling' }[state] ?? 'hangup';
  $('hangup').querySelector('span').textContent = t(`do.${word}`);
  $('mute').hidden = !(talking && call?.microphoneOpen);
  $('mute').setAttribute('aria-pressed', Boolean(call?.muted));
  $('open').hidden = !(state === 'talking' && call?.door);
  $('open').disabled = ['asking', 'open'].includes(call?.door?.state);
  $('again').hidden = !NO_MICROPHONE.includes(state);
  $('free').hidden = !(state === 'disturb' && !away?.hours);
  $('disturb').hidden = !(state === 'ready' && role === 'answerer');
  $('report').hidden = !canReport;
  $('off').hidden = inCall || ![...WAITING, ...NO_MICROPHONE].includes(state);
}

/** What stands beside the state: clock, doors, what was missed, what to look after. */
function showBeside(model, looks) {
  const { state, silent, report, missed, mismatch, waiting, doors, doorList, keys } = model;
  const resting = ['ready', 'disturb'].includes(state);
  $('clock').hidden = !resting;
  $('time').textContent = timeOfDay(new Date());
  $('doors').textContent = doors === null || doors === undefined || NO_COUNT.includes(looks) ? '' : count('doors', doors);
  $('silent').hidden = !silent || OFF_DUTY.includes(state) || NO_MICROPHONE.includes(state);
  $('sizes').hidden = hidesSizes || state === 'setup';
  $('notice').hidden = !report;
  $('notice').textContent = report ? t(...report) : '';
  $('waiting').hidden = !(waiting > 0) || resting;
  $('waiting').textContent = waiting > 0 ? count('waiting', waiting) : '';
  $('missed').hidden = !missed || !resting;
  $('missed-text').textContent = missed ? missedText(missed) : '';
  $('mismatch').hidden = !mismatch || state === 'ended';
  const about = KEYS_DIFFER.includes(mismatch) ? (keys.length ? 'with_key' : 'without_key') : 'tampered';
  $('mismatch-title').textContent = t(about === 'tampered' ? 'state.distrust' : 'mismatch.title');
  $('mismatch-text').textContent = mismatch ? t(`mismatch.${about}`, { check: keys[0]?.check }) : '';
  showDoors(resting ? (doorList ?? []) : []);
}

function missedText({ count: n, at, name }) {
  const what = count('missed', n, { when: ago(Date.now() - at) });
  return name ? t('missed.from', { what, name }) : what;
}

/** The doors that can be called: each with its two buttons. */
function showDoors(doors) {
  $('door-list').hidden = !doors.length;
  const wanted = doors.map(({ door, name }) => `${door} ${name}`).join('\n') + document.documentElement.lang;
  if ($('door-rows').dataset.shown === wanted) return; // so that a button that has the focus stays
  $('door-rows').dataset.shown = wanted;
  $('door-rows').replaceChildren(...doors.map(({ door, name }) => doorRow(door, name || t('doors.nameless'))));
}

function doorRow(door, name) {
  const row = document.createElement('li');
  const label = document.createElement('span');
  label.textContent = name;
  row.append(label);
  for (const kind of ['call', 'announce']) {
    const button = document.createElement('button');
    Object.assign(button, { type: 'button', textContent: t(`do.${kind}`) });
    Object.assign(button.dataset, { door, kind, name });
    button.setAttribute('aria-label', t(`doors.${kind}`, { name }));
    row.append(button);
  }
  return row;
}

/** What belongs to a call: the open microphone, the check words, the door that can be opened. */
function showCall({ state, call, keys, testing }) {
  $('microphone').hidden = !(call?.microphoneOpen || testing);
  $('microphone').dataset.muted = Boolean(call?.muted);
  $('microphone').textContent = t(call?.muted ? 'microphone.muted' : 'microphone.open');
  $('warning').hidden = !call?.warned;
  const inCall = ['connecting', 'talking', 'reconnecting'].includes(state);
  $('words').hidden = !(inCall && call?.words);
  const [words, asNumbers] = call?.words ? [call.words.join(' · '), numbers(call.words).join(' · ')] : ['', ''];
  // The list is English; people of other languages compare the numbers, so those come first there.
  const english = document.documentElement.lang === 'en';
  $('words-list').textContent = english ? words : asNumbers;
  $('words-numbers').textContent = call?.words ? (english ? t('words.numbers', { numbers: asNumbers }) : words) : '';
  $('words-numbers').lang = 'en';
  $('words-help').textContent = t(keys.length ? 'words.sealed' : 'words.compare');
  const door = call?.door;
  $('door').hidden = !door || door.state === 'ready';
  $('door').textContent = door ? doorText(door) : '';
  showLength({ state, call });
}

function doorText({ state, reason }) {
  return has(`door.${state}.${reason}`) ? t(`door.${state}.${reason}`) : has(`door.${state}`) ? t(`door.${state}`) : '';
}

/** How long the call lasts; also called by the clock, every second. */
export function showLength({ state, call }) {
  const talks = ['talking', 'reconnecting'].includes(state) && typeof call?.talkingSince === 'number';
  $('length').hidden = !talks;
  if (!talks) return;
  const seconds = Math.max(0, Math.floor((performance.now() - call.talkingSince) / 1000));
  $('length').textContent = `${Math.floor(seconds / 60)}:${String(seconds % 60).padStart(2, '0')}`;
}

function showSetup({ state, pool, role, keys, pass }) {
  const sealed = keys.length > 0;
  const [check, other] = keys.map((key) => key.check);
  $('setup').hidden = state !== 'setup';
  $('where').textContent = OFF_DUTY.includes(state) ? '' : `${pool} · ${t(`role.${role}`)}`;
  $('seal').dataset.sealed = sealed;
  $('seal').textContent = sealed ? t('sealed', { check }) : t('unsealed');
  $('key-label').textContent = t('key.label', { command: 'voicemeet-edge keygen' });
  $('pass-label').textContent = t('pass.label', { command: 'voicemeet-edge pass' });
  $('pool').title = t('pool.form');
  $('pass-state').textContent = t(pass ? 'pass.there' : 'pass.none');
  $('forget-pass').hidden = !pass;
  $('key-state').textContent = t(sealed ? (other ? 'key.both' : 'key.used') : 'key.none', { check, other });
  $('forget').hidden = !sealed;
}

let announced = '';

/** Screen readers hear each state once; a call is worth an interruption. */
function announce(state, text) {
  if (text === announced) return;
  announced = text;
  const urgent = ['ringing', 'ended', 'reconnecting', 'offline'].includes(state);
  $(urgent ? 'say-now' : 'say').textContent = text;
}
