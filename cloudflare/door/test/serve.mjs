// Run the door in the real Workers runtime: `node serve.mjs '{"": "http://127.0.0.1:1234"}' [options]`.
// Prints its URL; ends when its input does, on SIGTERM, when its parent is gone, and after `limit_s` (an hour).
import { fileURLToPath } from "node:url";
import { readFileSync } from "node:fs";
import { Miniflare } from "miniflare";
import { bounded } from "./lifetime.mjs";

const SOURCE = fileURLToPath(new URL("../src", import.meta.url));
const settings = JSON.parse(
  readFileSync(new URL("../wrangler.jsonc", import.meta.url), "utf8").replace(/^\s*\/\/.*$/gm, ""),
);

export function door(projects, { secret = "", port = 0, limits = {} } = {}) {
  const ratelimits = Object.fromEntries(
    settings.ratelimits
      .filter(({ name }) => limits[name] !== null)
      .map(({ name, simple }) => [name, { simple: { ...simple, ...limits[name] } }]),
  );
  return new Miniflare({
    modules: true,
    modulesRoot: SOURCE,
    modulesRules: [{ type: "ESModule", include: ["**/*.js"] }],
    scriptPath: `${SOURCE}/door.js`,
    compatibilityDate: settings.compatibility_date,
    host: "127.0.0.1",
    port,
    bindings: { PROJECTS: JSON.stringify(projects), ORIGIN: "*", DOOR_SECRET: secret },
    ratelimits,
  });
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const options = JSON.parse(process.argv[3] ?? "{}");
  bounded(options.limit_s ?? 3600);
  const running = door(JSON.parse(process.argv[2]), options);
  const end = () => {
    setTimeout(() => process.exit(1), 5000).unref(); // a runtime that does not end is no reason to stay
    running.dispose().finally(() => process.exit(0));
  };
  for (const signal of ["SIGTERM", "SIGINT", "SIGHUP"]) process.on(signal, end);
  for (const event of ["end", "close", "error"]) process.stdin.on(event, end);
  process.stdin.resume();
  console.log(String(await running.ready));
}
