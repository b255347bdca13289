// See to it that a process of the tests ends, whatever happens to it. One rule: it watches from a thread of its
// own, because a process that is busy in its main thread hears neither its timers nor SIGTERM.
import { Worker } from "node:worker_threads";

const LOOK_MS = 250;
const MAX_RSS_BYTES = 1024 ** 3; // the tests and the runtime's client take 150 MB
const MAX_SILENCE_MS = 60_000; // of the main thread; a crowded machine may well stop it for some seconds

const WATCH = `
const { workerData } = require("node:worker_threads");
const { limitMs, parent, beat, LOOK_MS, MAX_RSS_BYTES, MAX_SILENCE_MS } = workerData;
const { readFileSync, writeSync } = require("node:fs");
const until = Date.now() + limitMs;
let [last, since] = [0, Date.now()];
setInterval(() => {
  const now = Date.now();
  const count = Atomics.load(beat, 0);
  if (count !== last) [last, since] = [count, now];
  const why = process.ppid !== parent ? "its parent is gone" : now > until ? "its time is up"
    : now - since > MAX_SILENCE_MS ? "its main thread is stuck"
    : process.memoryUsage.rss() > MAX_RSS_BYTES ? "it takes too much memory" : "";
  if (why === "") return;
  try { writeSync(2, "ended: " + why + "\\n"); } catch {}
  // The Workers runtime outlives a parent that is killed.
  try {
    const children = readFileSync("/proc/" + process.pid + "/task/" + process.pid + "/children", "utf8");
    for (const child of children.split(" ").map(Number)) if (child > 1) process.kill(child, "SIGKILL");
  } catch {}
  process.kill(process.pid, "SIGKILL");
}, LOOK_MS);
`;

/** End this process and its children after `limitS` seconds, or when its parent is gone, it is stuck, or too big. */
export function bounded(limitS) {
  const beat = new Int32Array(new SharedArrayBuffer(4));
  setInterval(() => Atomics.add(beat, 0, 1), 1000).unref();
  const settings = { limitMs: limitS * 1000, parent: process.ppid, beat, LOOK_MS, MAX_RSS_BYTES, MAX_SILENCE_MS };
  new Worker(WATCH, { eval: true, execArgv: [], workerData: settings }).unref();
  // Nobody reads any more: a reporter that reports this by writing would never end.
  for (const stream of [process.stdout, process.stderr]) stream.on("error", () => process.exit(1));
}
