// The health of the devices, as they tell it themselves. Rule: what is not well stands first and says so in words.

import { language, t } from '/desk/texts.js';
import { ask } from './api.js';
import { fleetKey } from './fleet_key.js';
import { openSealed } from './fleet_seal.js';

const SILENT_S = 3600; // a device speaks each quarter of an hour
const HEADS = ['fleet.device', 'fleet.state', 'fleet.test', 'fleet.version', 'fleet.up', 'fleet.heard'];
const OUTCOMES = { passed: 'fleet.passed', failed: 'fleet.failed' };

function long(seconds) {
  const [size, unit] = [[86400, 'day'], [3600, 'hour'], [60, 'minute'], [1, 'second']].find(([least]) => seconds >= least || least === 1);
  return new Intl.NumberFormat(language(), { style: 'unit', unit, unitDisplay: 'short' }).format(Math.round(seconds / size));
}

const ago = (seconds) => t('fleet.ago', { time: long(seconds) });

/** A word that is no language's: how well a device is. */
function isWell(device) {
  return !device.closedBy && device.seen_s <= SILENT_S && !device.faults.length && device.self_test !== 'failed';
}

const number = (value) => (Number.isFinite(value) ? value : 0);

/** A row that a device sealed, opened if it can be. The older of what hub and device say of its age counts. */
async function unseal(key, row) {
  if (!row.sealed) return row;
  const closed = (closedBy) => ({ faults: [], seen_s: row.seen_s, closedBy });
  if (!key) return closed('fleet.sealed');
  try {
    const told = await openSealed(key, row.device, row.sealed);
    const faults = Array.isArray(told.faults) ? told.faults : [];
    return { ...told, faults, seen_s: Math.max(row.seen_s, Date.now() / 1000 - number(told.at)) };
  } catch {
    return closed('fleet.sealed_otherwise');
  }
}

function state(device) {
  if (device.closedBy) return t(device.closedBy);
  if (device.seen_s > SILENT_S) return t('fleet.quiet', { time: long(device.seen_s) });
  if (device.faults.length) return t('fleet.ill', { faults: device.faults.join(', ') });
  if (device.self_test === 'failed') return t('fleet.test_failed');
  return t('fleet.well');
}

const warm = (device) => (device.temperature_c === undefined ? '' : `, ${Math.round(device.temperature_c)} °C`);
const outcome = (word) => (OUTCOMES[word] ? t(OUTCOMES[word]) : word);

function test(device) {
  if (device.closedBy) return '–';
  return device.self_test ? `${outcome(device.self_test)}, ${ago(device.self_test_age_s)}` : t('fleet.untested');
}


function row(device) {
  const line = document.createElement('tr');
  line.className = isWell(device) ? 'well' : 'ill';
  const name = device.name || t(device.closedBy ? 'fleet.closed' : 'fleet.nameless');
  const up = device.closedBy ? '–' : long(device.up_s ?? 0);
  const cells = [name, state(device) + warm(device), test(device), device.version ?? '–', up, ago(device.seen_s)];
  for (const text of cells) line.insertCell().textContent = text;
  return line;
}

/** Show who told the hub of its health. */
export async function showFleet() {
  const { devices: told } = await ask('fleet');
  const key = await fleetKey();
  const devices = await Promise.all(told.map((one) => unseal(key, one)));
  document.getElementById('fleet-none').hidden = devices.length > 0;
  document.getElementById('fleet-list').hidden = devices.length === 0;
  const table = document.createElement('table');
  const head = table.createTHead().insertRow();
  for (const text of HEADS) {
    const cell = document.createElement('th');
    cell.scope = 'col';
    cell.textContent = t(text);
    head.append(cell);
  }
  const body = table.createTBody();
  body.append(...devices.sort((one, other) => isWell(one) - isWell(other)).map(row));
  document.getElementById('fleet-list').replaceChildren(table);
}
