// Timers that go on while the page is hidden: browsers slow a hidden page's own timers down to one a
// minute, and a desk that is asked for every few seconds would fall out of its pool.

const timers = new Map();

self.onmessage = ({ data: { id, ms } }) => {
  clearTimeout(timers.get(id));
  timers.delete(id);
  if (ms === null) return;
  timers.set(id, setTimeout(() => {
    timers.delete(id);
    self.postMessage(id);
  }, ms));
};
