// When a desk is on duty and takes no calls: for an hour, or outside the hours that were set. Pure: told the time.
// Rule: it ends by itself; a desk that was forgotten in it would be one that never rings again.

const FOR_MS = 3_600_000; // an appointment, a meal

export class Away {
  constructor() {
    this.until = 0;
  }

  begin(now) {
    this.until = now + FOR_MS;
  }

  end() {
    this.until = 0;
  }

  /** Why no calls are taken now: {until}, {hours}, or null; `hours` is {from, to} as 08:00, or null. */
  why(now, hours) {
    if (this.until > now) return { until: this.until };
    return hours && !isWithin(hours, new Date(now)) ? { hours } : null;
  }
}

/** Whether a time of day lies in the hours; they may go over midnight. */
export function isWithin({ from, to }, date) {
  const now = date.getHours() * 60 + date.getMinutes();
  const [start, end] = [from, to].map((time) => Number(time.slice(0, 2)) * 60 + Number(time.slice(3, 5)));
  return start < end ? start <= now && now < end : start <= now || now < end;
}
