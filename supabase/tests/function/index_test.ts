// The whole function as the platform starts it; imported here, its types are checked with the tests'.
import assert from "node:assert/strict";
import voicemeet from "../../functions/voicemeet/index.ts";

Deno.test("without its secrets the function says which, and answers in the contract's shape", async () => {
  const said: unknown[] = [];
  const { error: usual } = console;
  console.error = (text) => said.push(text);
  const request = new Request("http://x/voicemeet/session", { method: "POST", body: "{}" });
  const response = await voicemeet.fetch(request).finally(() => console.error = usual);
  assert.deepEqual(said, ["the secret VOICEMEET_SIGNING_KEY is not set (docs/hosted.md)"]);
  const { error } = await response.json();
  assert.deepEqual([response.status, error.code, error.retry_after_s], [503, "misconfigured", 30]);
  assert.equal(response.headers.get("retry-after"), "30");
});
