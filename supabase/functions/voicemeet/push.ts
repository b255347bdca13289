// The push on `wait:<ticket>`: one REST call to Realtime after the answer, for all tickets of a moment. One
// rule: it may get lost, so nothing depends on it, and the ticket is written nowhere.

const TIMEOUT_MS = 3_000;
// A caller that rings 24 desks is one request, and so are the matches of a busy moment; nobody hears 5 ms.
const TOGETHER_MS = 5;

export function makeWake(realtimeUrl: string, secretKey: string, later: (work: Promise<unknown>) => void) {
  const url = `${realtimeUrl}/api/broadcast`;
  const headers = { apikey: secretKey, "Content-Type": "application/json" };
  let tickets: string[] = [];

  async function push(): Promise<void> {
    await new Promise((resolve) => setTimeout(resolve, TOGETHER_MS));
    const messages = tickets.map((ticket) => ({
      topic: `wait:${ticket}`,
      event: "matched",
      payload: {},
      private: true,
    }));
    tickets = [];
    try {
      const response = await fetch(url, {
        method: "POST",
        headers,
        body: JSON.stringify({ messages }),
        redirect: "error",
        signal: AbortSignal.timeout(TIMEOUT_MS),
      });
      await response.body?.cancel();
      if (response.status !== 202) console.warn(`a push was not taken (${response.status})`);
    } catch {
      console.warn("a push could not be sent");
    }
  }

  return (ticket: string): void => {
    if (tickets.push(ticket) === 1) later(push());
  };
}
