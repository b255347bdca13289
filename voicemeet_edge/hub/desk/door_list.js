// The doors of this desk's ring group that can be called. Rule: fetched when their number changed and when the desk
// is ready again, never kept.

import { nameOf } from './door_names.js';

const LISTED = 100; // doors that the server lists at most

export class DoorList {
  /** `onChange()` is called when the list is another one. */
  constructor(finder, keys, pool, onChange) {
    Object.assign(this, { finder, keys, pool, onChange });
    this.doors = []; // {door, name}
    this.count = null;
  }

  /** The server said how many doors are on line; undefined where it does not say. */
  told(count) {
    // A door that was just called is counted again a moment before it is listed again.
    if (count === undefined || (count === this.count && this.doors.length === Math.min(count, LISTED))) return;
    this.count = count;
    this.refresh();
  }

  async refresh() {
    if (this.count === null) return;
    try {
      const found = this.count ? await this.finder.doors() : [];
      const keys = this.keys.map(({ key }) => key);
      const named = found.map(async ({ door, label }) => ({ door, name: await nameOf(label, keys, this.pool) }));
      this.doors = (await Promise.all(named)).sort((one, other) => one.name.localeCompare(other.name));
    } catch {
      return; // as it was: told again with the next number
    }
    this.onChange();
  }
}
