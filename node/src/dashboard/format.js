// Numbers, moments and names for people.

const count = new Intl.NumberFormat(undefined, { maximumFractionDigits: 0 });
const small = new Intl.NumberFormat(undefined, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
const moment = new Intl.DateTimeFormat(undefined, {
  year: 'numeric', month: 'short', day: 'numeric', hour: '2-digit', minute: '2-digit', hourCycle: 'h23',
});
const exact = new Intl.DateTimeFormat(undefined, { dateStyle: 'medium', timeStyle: 'medium', hourCycle: 'h23' });

export const number = (value) => count.format(value);
export const rate = (value) => (value > 0 && value < 10 ? small.format(value) : count.format(value));
export const plural = (value, one, more) => `${number(value)} ${value === 1 ? one : more}`;
export const when = (millis) => moment.format(millis);
export const whenExactly = (millis) => exact.format(millis);

const UNITS = [['d', 86_400_000], ['h', 3_600_000], ['min', 60_000], ['s', 1000]];

/** A span in its largest unit, "3 d". */
export function span(millis) {
  const [unit, size] = UNITS.find(([, size]) => Math.abs(millis) >= size) ?? UNITS.at(-1);
  return `${Math.round(Math.abs(millis) / size)} ${unit}`;
}

/** "in 3 d" or "3 d ago". */
export function away(then, now) {
  if (Math.abs(then - now) < 1000) return 'now';
  return then > now ? `in ${span(then - now)}` : `${span(now - then)} ago`;
}

/** An address short enough for a table; the whole one goes into its title. */
export const short = (address) => (address.length > 16 ? `${address.slice(0, 8)}…${address.slice(-4)}` : address);

/** The path of a stream, and its owner. */
export function parts(id) {
  const slash = id.indexOf('/');
  return { owner: id.slice(0, slash), path: id.slice(slash + 1) };
}

export function bytes(value) {
  const units = ['B', 'kB', 'MB', 'GB', 'TB'];
  let at = 0;
  while (value >= 1000 && at < units.length - 1) [value, at] = [value / 1000, at + 1];
  return `${at === 0 ? value : rate(value)} ${units[at]}`;
}
