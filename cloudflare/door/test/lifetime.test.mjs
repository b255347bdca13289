// What these tests start ends with them, the runtime included, however they end themselves.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readFileSync } from "node:fs";
import { describe, test } from "node:test";
import { fileURLToPath } from "node:url";
import { bounded } from "./lifetime.mjs";

bounded(120);

const SERVE = fileURLToPath(new URL("./serve.mjs", import.meta.url));
const LIFETIME = new URL("./lifetime.mjs", import.meta.url);
const NOWHERE = '{"": "http://127.0.0.1:1"}';
const linux = { skip: existsSync("/proc/self/task") ? false : "no /proc on this system" };

const childrenOf = (pid) =>
  readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").split(" ").filter(Boolean).map(Number);
const firstLine = async (stream) => String((await once(stream, "data"))[0]).trim();
/** Wait until a process is gone (or a zombie that somebody else has to collect). */
async function gone(pid) {
  for (;;) {
    try {
      if (/^State:\s+Z/m.test(readFileSync(`/proc/${pid}/status`, "utf8"))) return;
    } catch {
      return;
    }
    await new Promise((later) => setTimeout(later, 50));
  }
}

// All at once: each waits for processes of its own.
describe("a process of these tests", { concurrency: true }, () => {
  for (const [how, end] of [
    ["its input ends", (child) => child.stdin.end()],
    ["SIGTERM comes", (child) => child.kill("SIGTERM")],
  ]) {
    test(`the served door ends when ${how}`, linux, async () => {
      const child = spawn(process.execPath, [SERVE, NOWHERE], { stdio: ["pipe", "pipe", "inherit"] });
      assert.match(await firstLine(child.stdout), /^http:/);
      const runtime = childrenOf(child.pid);
      assert.ok(runtime.length >= 1);
      end(child);
      await once(child, "exit");
      assert.equal(child.signalCode, null, "ended by itself, in order");
      await Promise.all(runtime.map(gone));
    });
  }

  test("the served door ends when its parent is killed, though its input stays open", linux, async () => {
    const script = `"$1" "$2" '${NOWHERE}' <&3 & echo $!; wait`;
    const options = { stdio: ["ignore", "pipe", "ignore", "pipe"] };
    const parent = spawn("sh", ["-c", script, "sh", process.execPath, SERVE], options);
    const served = Number(await firstLine(parent.stdout));
    assert.match(await firstLine(parent.stdout), /^http:/);
    const runtime = childrenOf(served);
    assert.ok(runtime.length >= 1);
    parent.kill("SIGKILL");
    await gone(served);
    await Promise.all(runtime.map(gone));
  });

  test("a process that loops for ever and hears no SIGTERM ends when its time is up", linux, async () => {
    const loop = `import { bounded } from ${JSON.stringify(LIFETIME)}; bounded(0.5);
      process.on("SIGTERM", () => {}); setTimeout(() => { for (;;); }, 100); console.log("on");`;
    const child = spawn(process.execPath, ["--input-type=module", "-e", loop], { stdio: ["ignore", "pipe", "pipe"] });
    await firstLine(child.stdout);
    child.kill("SIGTERM");
    const [said] = await Promise.all([firstLine(child.stderr), once(child, "exit")]);
    assert.equal(said, "ended: its time is up");
    assert.equal(child.signalCode, "SIGKILL");
  });
});
