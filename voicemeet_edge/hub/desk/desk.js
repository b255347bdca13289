// The desk page: puts the parts together and turns clicks and keys into what a call does.
// Rule: the only file that knows all the others; whatever happens to a call, the desk is ready again.

import * as admission from './admission.js';
import { Away } from './away.js';
import { Call } from './call.js';
import { after, backoff, every, pause } from './clock.js';
import { Duty } from './duty.js';
import * as keystore from './keystore.js';
import * as microphone from './microphone.js';
import { Missed } from './missed.js';
import * as notifier from './notifier.js';
import { change, preferences } from './preferences.js';
import { KINDS } from './reasons.js';
import { sendReport } from './reports.js';
import * as settingsDialog from './settings_dialog.js';
import * as setupForm from './setup_form.js';
import * as sounds from './sounds.js';
import { load, t, translate } from './texts.js';
import { show, showLength } from './view.js';

const ENDED_MS = 4_000; // how long the end of a call is shown before the desk is ready again
const REPORT_WINDOW_MS = 30_000; // after a call in which it can still be reported

const ROLES = ['answerer', 'caller', 'either'];
const KIND_OF = { answerer: 'called', caller: 'calling', either: 'meet' };
const TICK_MS = 1_000; // clock, call length, how long ago the last missed call was

const $ = (id) => document.getElementById(id);
const query = new URLSearchParams(location.search);
const missed = new Missed();
const away = new Away();

const model = {
  state: 'setup',
  pool: query.get('pool') || preferences.duty?.pool || 'frontdesk',
  role: [query.get('role'), preferences.duty?.role].find((role) => ROLES.includes(role)) ?? 'answerer',
  keys: [],
  pass: null, // of this pool; null when it has none here
  refusal: null, // the server's word for why it does not let this desk in
  call: null,
  last: null, // the last call, while it can be reported
  report: null, // what became of a report: [key of a sentence, its values]
  mismatch: null, // why a call was not trusted, until somebody has seen it
  waiting: 0, // callers that wait and did not ring here
  doors: null, // how many are on line; null: not told
  away: null, // why no calls are taken now
  testing: false, // a test of the sound holds the microphone
  get doorList() {
    return desk?.doorList.doors ?? [];
  },
  get missed() {
    return preferences.missed ? missed.summary() : null;
  },
  silent: false, // the browser took the sound away: it would not ring
  get silentCallers() {
    return desk?.arrivals?.silentCount ?? 0;
  },
  get canReport() {
    return Boolean((this.call?.wasInCall) || this.last?.reportable);
  },
};
let desk = null; // there while on duty
let wantsDuty = false; // the person went on duty: what takes the desk off it is looked after until it goes away

function enter(state) {
  model.state = state;
  sounds.ring(state === 'ringing');
  if (state === 'ringing') closeDialogs();
  show(model);
  if (state === 'ringing') $('answer').focus();
  if (state === 'ringing' && preferences.notify) notifier.show(document.title, t('app.name'));
  else notifier.hide();
}

/** Behind a dialog nobody could answer: the settings, or the question whether to report the call before. */
function closeDialogs() {
  for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
}

function showIdle() {
  if (!desk || model.call || model.state === 'ended') return;
  model.refusal = desk.refusal;
  enter(desk.state);
}

async function start() {
  sounds.allow();
  model.pool = $('pool').value.trim();
  model.role = $('role').value;
  change({ duty: $('stay').checked ? { pool: model.pool, role: model.role } : null });
  model.pass = await admission.keptPass(model.pool).catch(() => null);
  if (!isSecureContext || !navigator.mediaDevices) return enter('insecure');
  wantsDuty = true;
  await begin();
}

/** Go on duty if there is a microphone; asked for now, while somebody may look at the page. */
async function begin() {
  enter('asking');
  const trouble = await microphone.tryOut();
  if (trouble) return enter(trouble);
  enter('starting');
  const config = await loadConfig();
  if (wantsDuty && !desk) onDuty(config);
}

/** A desk without a microphone does not ring: others can answer. With one again it goes on by itself. */
async function lookAtMicrophone() {
  if (!wantsDuty || model.call) return;
  const trouble = await microphone.trouble();
  if (trouble && desk && !model.call) {
    leaveDuty();
    enter(trouble);
  } else if (!trouble && !desk && model.state.startsWith('microphone_')) {
    await begin();
  }
}

async function loadConfig() {
  for (const waitMs of backoff()) {
    try {
      const response = await fetch('config.json', { cache: 'no-store' });
      if (response.ok) return await response.json();
      model.refusal = (await response.json()).error?.code ?? null; // a desk's own machine knows why
    } catch {
      // The server is not there yet: said on the page, tried again.
    }
    enter('offline');
    await pause(waitMs);
  }
}

function onDuty(config) {
  // A link can make this desk more private than its pool is, and never less.
  const policy = query.get('policy') === 'relay' || model.pool === 'public' ? 'relay' : 'direct';
  const { pool, role, pass, keys } = model;
  desk = new Duty(config, { pool, role, pass, keys, policy }, {
    makeCall,
    attend,
    onChange: showIdle,
    onDoors: () => show(model),
    onTold({ callers = 0, doors = null }) {
      const same = model.waiting === callers && model.doors === doors;
      Object.assign(model, { waiting: callers, doors });
      if (!same) show(model);
    },
  });
  Object.assign(model, { waiting: 0, doors: null });
  lookAtClock();
  desk.beAway(Boolean(model.away)); // since before it was on duty: the server knows nothing of it
  desk.begin();
}

/** Call one door, or speak at it; `name` is what the list says, until the door says its own. */
async function callDoor(door, name, announce) {
  const mine = desk;
  if (model.call || !['ready', 'disturb'].includes(model.state)) return;
  model.report = null;
  try {
    const match = await mine.finder.askDoor(door);
    const call = makeCall(mine, match, undefined, { kind: 'calling', announce, name });
    if (mine !== desk || model.call) return void call.end('cancelled'); // it rang meanwhile
    call.start();
    mine.arrivals.insteadTake(call);
  } catch (error) {
    model.report = [error.code === 'door_away' ? 'doors.away' : 'doors.failed'];
    mine.doorList.refresh();
    show(model);
  }
}

/** A call that is not started; `onFirst` hears of it before it is this desk's call. */
function makeCall(duty, match, onFirst = () => {}, { kind = KIND_OF[duty.role], announce, name } = {}) {
  const { realtime, verbs, policy, pass } = duty;
  const { keys } = model;
  const onCall = (changed) => {
    onFirst(changed);
    if (kind === 'called' && model.call !== changed) return; // on its way, or told to go
    changed.answered ||= ['connecting', 'talking'].includes(changed.phase);
    if (!changed.talked && changed.phase === 'talking') sounds.chime(true);
    changed.talked ||= changed.phase === 'talking';
    if (changed.phase === 'arriving') show(model);
    else if (changed.phase !== 'ended') enter(changed.phase);
  };
  return new Call(match, kind, { realtime, verbs, policy, pass, keys, onTrack, onCall }, { announce, name });
}

function onTrack(track) {
  $('voice').srcObject = new MediaStream([track]);
  if ($('voice').setSinkId) $('voice').setSinkId(preferences.voice).catch(() => {}); // unplugged: the system's own
  $('voice').play().catch(() => {});
}

async function attend(call) {
  forgetLast();
  model.call = call;
  if (call.phase !== 'ended') enter(call.phase);
  await call.finished;
  model.call = null;
  missed.note(call);
  if (KINDS[call.reason] === 'distrust') model.mismatch = call.reason;
  model.last = Object.assign(call, { reportable: call.phase === 'ended' && call.wasInCall });
  $('voice').srcObject = null;
  if (call.talked) sounds.chime(false);
  after(REPORT_WINDOW_MS, () => model.last === call && forgetLast());
  enter('ended');
  if (call.reportWanted) report(call);
  await pause(ENDED_MS);
  if (model.state === 'ended') model.state = 'starting';
  showIdle();
}

function forgetLast() {
  model.last = null;
  if (!model.call) model.report = null;
  show(model);
}

function report(call) {
  call.reportable = false;
  return sendReport(call, (...sentence) => {
    model.report = sentence;
    show(model);
  });
}

function leaveDuty() {
  desk?.close();
  desk = null;
}

function offDuty() {
  wantsDuty = false;
  change({ duty: null });
  missed.clear();
  away.end();
  model.mismatch = null;
  leaveDuty();
  enter('setup');
}

/** A report is asked for once more: it cannot be taken back. */
function askForReport() {
  if (!model.canReport) return;
  $('report-dialog').returnValue = '';
  $('report-dialog').showModal();
}

function reportNow() {
  if (!model.canReport) return;
  if (model.call) {
    model.call.reportWanted = true;
    model.call.end('reported');
  } else {
    report(model.last);
  }
}

const actions = {
  answer() {
    model.call?.answer();
    $('headline').focus(); // not the button that comes in its place: a second Enter must not hang up
  },
  mute: () => model.call?.mute(!model.call.muted),
  again: () => begin(),
  open: () => model.call?.openDoor(),
  disturb() {
    away.begin(Date.now());
    lookAtClock();
  },
  free() {
    away.end();
    lookAtClock();
  },
  hangup() {
    if (model.call) return model.call.hangup();
    return desk && desk.role !== 'answerer' && desk.wanted ? desk.stopSeeking() : null;
  },
  call() {
    if (!model.call && model.state === 'ready') desk?.seek();
  },
  report: askForReport,
  off: offDuty,
};

const KEYS = { Enter: 'answer', ' ': 'answer', Escape: 'hangup', m: 'mute', M: 'mute', r: 'report', R: 'report' };

function onKey(event) {
  const action = KEYS[event.key];
  if (!action || event.repeat || event.ctrlKey || event.altKey || event.metaKey) return;
  if (event.target.closest('input, select, textarea, dialog')) return;
  // A button that has the focus takes Enter and Space itself.
  if (action === 'answer' && event.target.closest('button, summary, a')) return;
  if ($(action).hidden) return;
  event.preventDefault();
  actions[action]();
}

function wire() {
  for (const [id, action] of Object.entries(actions)) $(id).addEventListener('click', action);
  setupForm.wire({ model, start, onChange: () => show(model) });
  $('report-dialog').addEventListener('close', ({ target }) => target.returnValue === 'report' && reportNow());
  $('mismatch-seen').addEventListener('click', () => seen(() => (model.mismatch = null)));
  $('missed-seen').addEventListener('click', () => seen(() => missed.clear()));
  $('door-rows').addEventListener('click', ({ target }) => {
    const { door, kind, name } = target.closest('button')?.dataset ?? {};
    if (door) callDoor(door, name, kind === 'announce');
  });
  settingsDialog.wire({
    onChange() {
      lookAtClock();
      translate(document);
      show(model);
    },
    onMicrophone(open) {
      model.testing = open;
      show(model);
    },
  });
  microphone.watch(lookAtMicrophone);
  every(TICK_MS, tick);
  addEventListener('keydown', onKey);
  for (const kind of ['click', 'keydown']) addEventListener(kind, sounds.retry, { capture: true });
  sounds.whenSilent((silent) => {
    model.silent = silent;
    show(model);
  });
  document.addEventListener('visibilitychange', () => desk?.stayAwake()); // the browser lets go of it when hidden
  addEventListener('online', () => desk?.finder.hint());
  // Taken out of the browser's memory again: what was closed stays closed, so begin anew.
  addEventListener('pageshow', (event) => event.persisted && location.reload());
  // Firefox may end a page's process so soon that nothing said at pagehide leaves it: the call says goodbye first.
  addEventListener('beforeunload', () => model.call?.endNow());
  addEventListener('pagehide', () => {
    model.call?.endNow();
    desk?.endNow();
    if (!model.call) desk?.finder.leave({ keepalive: true });
  });
}

function seen(forget) {
  forget();
  show(model);
  $('headline').focus(); // the button is gone
}

let minute = null;

/** Do not disturb, and hours: begin and end by the clock. */
function lookAtClock() {
  const why = away.why(Date.now(), preferences.hours);
  if (JSON.stringify(why) === JSON.stringify(model.away)) return;
  model.away = why;
  if (!desk || model.role !== 'answerer') return;
  desk.beAway(Boolean(why));
  showIdle();
}

/** What changes without anything happening. */
function tick() {
  showLength(model);
  lookAtClock();
  const now = Math.floor(Date.now() / 60_000);
  if (now !== minute) show(model);
  minute = now;
}

async function main() {
  await load(preferences.language);
  translate(document);
  try {
    model.pool = (await admission.takeFromLink()) ?? model.pool;
  } catch (error) {
    $('pass-error').textContent = error.message;
    $('pass-part').open = true; // folded away nobody would read it
  }
  $('pool').value = model.pool;
  $('role').value = model.role;
  $('stay').checked = Boolean(preferences.duty) || query.get('duty') === '1';
  wire();
  if (!isSecureContext) return enter('insecure');
  model.keys = await keystore.recall().catch(() => []);
  model.pass = await admission.keptPass(model.pool).catch(() => null);
  enter('setup');
  if ($('stay').checked) start(); // not awaited: the page can be used meanwhile
}

/** Settled when the page can be used. */
export const ready = main();
export { model };
