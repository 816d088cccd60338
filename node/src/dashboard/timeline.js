// The picture of who can read what: when each key was current above, each subscriber's paid time below, on one axis of time.

import { draw } from './dom.js';
import { plural, short, when, whenExactly } from './format.js';

const AXIS = 22;
const KEYS = 22;
const LANE = 26;
const NARROW = 640;
const GUTTER = 116;
const MOST = 40;
const STEPS = [1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440, 2880, 7200, 14400, 43200, 129600, 525600]
  .map((minutes) => minutes * 60_000);

export const SPANS = [['1 h', 3_600_000], ['24 h', 86_400_000], ['7 d', 7 * 86_400_000], ['30 d', 30 * 86_400_000], ['All', 0]];

/** From when to when is shown. A part of it lies ahead, so that ends to come are seen. */
export function frame(span, now, keys, lanes) {
  if (span > 0) return { from: now - span * 0.8, to: now + span * 0.2 };
  const starts = [...keys.map((key) => key.since), ...lanes.flatMap((lane) => lane.times.map((time) => time.since))];
  const ends = lanes.flatMap((lane) => lane.times.map((time) => time.until));
  const known = (moments) => moments.filter((moment) => moment !== null && moment > 0);
  const from = Math.min(now - 60_000, ...known(starts));
  const past = now - from;
  const to = Math.max(now + past * 0.1, Math.min(now + past * 2, ...[Math.max(now, ...known(ends))]));
  const edge = (to - from) * 0.02;
  return { from: from - edge, to: to + edge };
}

/** The users of a list of grants, each with its times. */
export function lanesOf(subscribers) {
  const lanes = new Map();
  for (const one of subscribers) {
    const lane = lanes.get(one.user) ?? { user: one.user, times: [], newest: null };
    lane.times.push(one);
    lane.newest = one.last_key ?? lane.newest;
    lanes.set(one.user, lane);
  }
  return [...lanes.values()];
}

/** What of a lane is covered by keys that were given: from the first key of its time to the end of the newest one. */
export function reach(lane, keys, now) {
  const newest = keys.find((key) => key.key_id === lane.newest);
  if (!newest) return null;
  const overlaps = (key) => lane.times.some((time) =>
    (time.since ?? 0) <= (key.until ?? now) && (time.until ?? Infinity) >= key.since);
  const first = keys.filter((key) => key.since <= newest.since && overlaps(key)).map((key) => key.since);
  return { from: Math.min(newest.since, ...first), to: newest.current ? now : newest.until ?? now };
}

/** In one sentence, for those who do not see the picture. */
export function inWords(keys, lanes) {
  const current = keys.find((key) => key.current);
  const reads = lanes.filter((lane) => lane.times.some((time) => time.status === 'active'));
  const over = lanes.length - reads.length;
  const key = current ? `The current key, ${current.fingerprint.slice(0, 8)}, is in use since ${when(current.since)}.` : 'There is no key yet.';
  return `${plural(keys.length, 'key', 'keys')}, ${plural(reads.length, 'subscriber who may', 'subscribers who may')} read now, `
    + `${plural(over, 'whose time is over or to come', 'whose time is over or to come')}. ${key}`;
}

/** Draws into `svg`, which is `width` pixels wide. */
export function timeline(svg, { keys, lanes, span, now, width }) {
  const narrow = width < NARROW;
  const gutter = narrow ? 0 : GUTTER;
  const lane = narrow ? LANE + 14 : LANE;
  const shown = lanes.slice(0, MOST);
  const { from, to } = frame(span, now, keys, lanes);
  const x = (moment) => gutter + ((moment - from) / (to - from)) * (width - gutter);
  const clip = (moment) => Math.min(width, Math.max(gutter, x(moment)));
  const top = AXIS + KEYS + 8;
  const height = top + Math.max(1, shown.length) * lane + 4;
  svg.setAttribute('viewBox', `0 0 ${width} ${height}`);
  svg.setAttribute('height', height);
  const seen = keys.filter((key) => key.since < to && (key.until ?? now) > from);
  svg.replaceChildren(
    ...ticks({ from, to, x, gutter, width, height, now }),
    ...seen.map((key, at) => keyBand(key, keys.indexOf(key), at, { clip, now, height })),
    ...shown.flatMap((one, at) => subscriber(one, top + at * lane, { keys, clip, from, to, now, narrow, lane, width, gutter })),
    ...nowLine(clip(now), height, width),
  );
  if (gutter) svg.append(draw('text', { x: 0, y: AXIS + 15, class: 'label' }, 'keys'));
  if (lanes.length > shown.length) return `The picture shows the first ${MOST} of ${lanes.length} subscribers; the table has them all.`;
  return '';
}

function ticks({ from, to, x, gutter, width, height, now }) {
  const most = Math.max(2, Math.floor((width - gutter) / 92));
  const step = STEPS.find((size) => (to - from) / size <= most) ?? STEPS.at(-1);
  const offset = new Date(from).getTimezoneOffset() * 60_000;
  const found = [];
  for (let at = Math.ceil((from - offset) / step) * step + offset; at < to; at += step) {
    found.push(draw('line', { x1: x(at), x2: x(at), y1: AXIS - 4, y2: height, class: 'tick' }));
    const free = x(at) < width - 48 && (x(at) + 52 < x(now) || x(at) > x(now) + 36);
    if (free) found.push(draw('text', { x: x(at) + 4, y: 13, class: 'axis' }, tickText(at, step)));
  }
  return found;
}

function tickText(at, step) {
  const date = new Date(at);
  const day = date.toLocaleDateString(undefined, { month: 'short', day: 'numeric' });
  const midnight = date.getHours() === 0 && date.getMinutes() === 0;
  if (step >= 86_400_000 || midnight) return day;
  return date.toLocaleTimeString(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
}

function keyBand(key, index, at, { clip, now, height }) {
  const [begin, end] = [clip(key.since), clip(key.current ? now : key.until ?? now)];
  const wide = Math.max(1.5, end - begin);
  const until = key.current ? 'now' : key.until === null ? 'unknown' : whenExactly(key.until);
  const band = draw('g', {},
    draw('title', {}, `Key ${key.key_id}, fingerprint ${key.fingerprint}, ${whenExactly(key.since)} to ${until}`),
    draw('rect', { x: begin, y: AXIS, width: wide, height: KEYS, rx: 3, class: key.current ? 'key current' : `key ${index % 2 ? 'odd' : 'even'}` }),
    at === 0 ? null : draw('line', { x1: begin, x2: begin, y1: AXIS, y2: height, class: 'change' }));
  if (wide > 66) band.append(draw('text', { x: begin + 7, y: AXIS + 15, class: key.current ? 'key-name current' : 'key-name' }, key.fingerprint.slice(0, 8)));
  return band;
}

function subscriber(one, y, { keys, clip, from, to, now, narrow, lane, width, gutter }) {
  const bar = y + (narrow ? 17 : 4);
  const drawn = [draw('text', { x: 0, y: narrow ? y + 12 : bar + 12, class: 'label' }, draw('title', {}, one.user), short(one.user))];
  for (const time of one.times) {
    const [begin, end] = [time.since ?? from, time.until ?? to];
    if (end < from || begin > to) continue;
    const past = Math.min(end, now);
    const group = draw('g', {}, draw('title', {}, paidText(one.user, time)));
    if (begin < past) {
      group.append(draw('rect', { x: clip(begin), y: bar, width: Math.max(2, clip(past) - clip(begin)), height: 12, rx: 2, class: `paid ${time.status}` }));
    }
    if (end > now) {
      const start = Math.max(begin, now);
      group.append(draw('rect', { x: clip(start), y: bar + 0.5, width: Math.max(2, clip(end) - clip(start) - 1), height: 11, rx: 2, class: 'ahead' }));
    }
    if (time.until === null) group.append(draw('path', { d: `M${width - 7} ${bar + 2}l5 4l-5 4`, class: 'endless' }));
    if (time.until !== null && time.until < to) {
      group.append(draw('line', { x1: clip(end), x2: clip(end), y1: bar - 3, y2: bar + 15, class: `end ${time.status}` }));
    }
    drawn.push(group);
  }
  const covered = reach(one, keys, now);
  if (covered && covered.to > from) {
    drawn.push(draw('rect', { x: clip(covered.from), y: bar + 14, width: Math.max(2, clip(covered.to) - clip(covered.from)), height: 3, class: 'reach' },
      draw('title', {}, `${one.user} was given keys in use from ${whenExactly(covered.from)} to ${covered.to === now ? 'now' : whenExactly(covered.to)}`)));
  }
  drawn.push(draw('line', { x1: narrow ? 0 : gutter, x2: width, y1: y + lane - 2, y2: y + lane - 2, class: 'floor' }));
  return drawn;
}

function paidText(user, time) {
  const from = time.since === null ? 'the beginning' : whenExactly(time.since);
  const until = time.until === null ? 'no end' : whenExactly(time.until);
  return `${user}: paid time from ${from} until ${until}, ${STATUS[time.status] ?? time.status}`;
}

function nowLine(at, height, width) {
  const left = at > width - 40;
  return [
    draw('line', { x1: at, x2: at, y1: AXIS - 8, y2: height, class: 'now' }),
    draw('text', { x: left ? at - 4 : at + 4, y: 13, class: 'now-name', 'text-anchor': left ? 'end' : 'start' }, 'now'),
  ];
}

export const STATUS = {
  active: 'may read', not_yet: 'not yet', expired: 'over', revoked: 'taken back', denied: 'on the deny list',
};
