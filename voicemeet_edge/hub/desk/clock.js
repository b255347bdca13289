// Time for the page. Rule: every wait goes through here, so that every wait can be cancelled.

const worker = new Worker(new URL('./clock-worker.js', import.meta.url));
const waiting = new Map();
let last = 0;

worker.onmessage = ({ data: id }) => {
  const call = waiting.get(id);
  waiting.delete(id);
  call?.();
};

/** Call `action` after `ms` milliseconds; returns a function that cancels. */
export function after(ms, action) {
  const id = ++last;
  waiting.set(id, action);
  worker.postMessage({ id, ms });
  return () => {
    if (waiting.delete(id)) worker.postMessage({ id, ms: null });
  };
}

/** Call `action` every `ms` milliseconds until cancelled. */
export function every(ms, action) {
  let cancel;
  const next = () => {
    cancel = after(ms, () => {
      next();
      action();
    });
  };
  next();
  return () => cancel();
}

/** A wait that `signal` or `wake()` cuts short; never rejects. */
export function pause(ms, signal) {
  let wake;
  const promise = new Promise((resolve) => {
    const cancel = after(ms, resolve);
    wake = () => {
      cancel();
      resolve();
    };
    signal?.addEventListener('abort', wake, { once: true });
    if (signal?.aborted) wake();
  });
  promise.wake = wake;
  return promise;
}

/** `promise`, or an Error with the given name after `ms`. */
export function within(ms, promise, name) {
  return new Promise((resolve, reject) => {
    const cancel = after(ms, () => reject(new Error(name)));
    promise.then(resolve, reject).finally(cancel);
  });
}

/** Waits that grow: full jitter, doubling, capped. Unlimited, because a desk is left alone for months. */
export function* backoff(firstMs = 500, capMs = 30_000) {
  for (let limit = firstMs; ; limit = Math.min(limit * 2, capMs)) {
    yield firstMs / 4 + Math.random() * limit;
  }
}
