// The push to Realtime, at a server that takes it.
import assert from "node:assert/strict";
import { makeWake } from "../../functions/voicemeet/push.ts";

Deno.test("the tickets of one moment go in one request, and those after it in another", async () => {
  const taken: { path: string; apikey: string | null; topics: string[]; isPrivate: boolean }[] = [];
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const { messages } = await request.json();
    taken.push({
      path: new URL(request.url).pathname,
      apikey: request.headers.get("apikey"),
      topics: messages.map((message: { topic: string }) => message.topic),
      isPrivate: messages.every((message: { private: boolean }) => message.private === true),
    });
    return new Response(null, { status: 202 });
  });
  const works: Promise<unknown>[] = [];
  const wake = makeWake(
    `http://127.0.0.1:${server.addr.port}/realtime/v1`,
    "key",
    (work) => works.push(work),
  );
  wake("one");
  wake("two");
  await Promise.all(works);
  wake("three");
  await Promise.all(works);
  await server.shutdown();
  const all = { path: "/realtime/v1/api/broadcast", apikey: "key", isPrivate: true };
  assert.deepEqual(taken, [
    { ...all, topics: ["wait:one", "wait:two"] },
    { ...all, topics: ["wait:three"] },
  ]);
});

Deno.test("a push that nobody takes is no failure of the verb", async () => {
  const works: Promise<unknown>[] = [];
  const wake = makeWake("http://127.0.0.1:1/realtime/v1", "key", (work) => works.push(work));
  wake("one");
  await Promise.all(works);
  assert.equal(works.length, 1);
});
