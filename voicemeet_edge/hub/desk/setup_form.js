// The form before going on duty: ring group, role, intercom key and pass. Rule: what is typed wrongly is said beside
// its field, and nothing is asked of a server yet.

import * as admission from './admission.js';
import * as keystore from './keystore.js';
import * as scanner from './scanner.js';

const $ = (id) => document.getElementById(id);

/** `model` gets keys, pool and pass; `start()` goes on duty; `onChange()` shows the model. */
export function wire({ model, start, onChange }) {
  async function changeKey(change) {
    try {
      await change();
      model.keys = await keystore.recall();
      $('key').value = '';
      $('key-error').textContent = '';
    } catch (error) {
      $('key-error').textContent = error.message;
    }
    onChange();
  }

  async function lookUpPass() {
    model.pool = $('pool').value.trim();
    model.pass = await admission.keptPass(model.pool).catch(() => null);
    onChange();
  }

  /** Change the pass of the pool that stands in the form. */
  async function changePass(change) {
    const pool = $('pool').value.trim();
    try {
      await change(pool);
      $('pass').value = '';
      $('pass-error').textContent = '';
    } catch (error) {
      $('pass-error').textContent = error.message;
    }
    await lookUpPass();
  }

  async function scanKey() {
    const found = await scanner.scan($('scanner'), $('camera'));
    if (found) await keystore.remember(found);
  }

  $('setup').addEventListener('submit', async (event) => {
    event.preventDefault();
    if ($('key').value) await changeKey(() => keystore.remember($('key').value));
    if ($('pass').value) await changePass((pool) => admission.rememberPass(pool, $('pass').value));
    if (!$('key-error').textContent && !$('pass-error').textContent) start();
  });
  for (const id of ['key', 'pass']) $(id).addEventListener('input', () => ($(`${id}-error`).textContent = ''));
  $('pool').addEventListener('change', lookUpPass);
  $('forget-pass').addEventListener('click', () => changePass((pool) => admission.forgetPass(pool)));
  $('remember').addEventListener('click', () => changeKey(() => keystore.remember($('key').value)));
  $('forget').addEventListener('click', () => changeKey(() => keystore.forget()));
  $('scan').hidden = !scanner.available();
  $('scan').addEventListener('click', () => changeKey(scanKey));
}
