// Writes numbers, times and ages. All functions are pure, except that the zone is the reader's.

/** Returns milliseconds with a unit: 0.42 ms, 4.1 ms, 1.3 s, 2 min. */
export function ms(value) {
  if (value === null || value === undefined || Number.isNaN(value)) return '';
  if (value === 0) return '0 ms';
  const size = Math.abs(value);
  if (size < 1) return `${value.toFixed(2)} ms`;
  if (size < 100) return `${value.toFixed(1)} ms`;
  if (size < 1000) return `${Math.round(value)} ms`;
  if (size < 60_000) return `${(value / 1000).toFixed(1)} s`;
  return `${Math.round(value / 60_000)} min`;
}

/** Returns an age in seconds as a person says it: 0.4 s ago, 12 s ago, 3 min ago. */
export function ago(seconds) {
  if (seconds === null || seconds === undefined) return '';
  if (seconds < 0) seconds = 0;
  if (seconds < 10) return `${seconds.toFixed(1)} s ago`;
  if (seconds < 90) return `${Math.round(seconds)} s ago`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min ago`;
  if (seconds < 129_600) return `${Math.round(seconds / 3600)} h ago`;
  return `${Math.round(seconds / 86_400)} days ago`;
}

/** Returns a time of day in the reader's zone, with milliseconds. */
export function timeOfDay(at) {
  const time = new Date(at);
  const two = (n) => String(n).padStart(2, '0');
  const thousandth = String(time.getMilliseconds()).padStart(3, '0');
  return `${two(time.getHours())}:${two(time.getMinutes())}:${two(time.getSeconds())}.${thousandth}`;
}

/** Returns the exact time in UTC. */
export const exact = (at) => new Date(at).toISOString();

/** Returns a guid that is short enough for a table. */
export function short(text, length = 13) {
  if (!text) return '';
  return text.length > length ? `${text.slice(0, length - 1)}…` : text;
}

export const plural = (count, noun) => `${count.toLocaleString('en')} ${noun}${count === 1 ? '' : 's'}`;
