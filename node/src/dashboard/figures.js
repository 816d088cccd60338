// What the node does just now: rates, key requests by outcome, peers.

import { draw, each, make, say } from './dom.js';
import { number, plural, rate } from './format.js';

/** How much of the past is drawn, and over how much of it a rate is taken. */
const KEPT = 120_000;
const OVER = 5000;
const LEAST = 900;

/** Counts as they come, so that rates can be taken. */
export class Counts {
  #seen = [];

  add(at, count) {
    const last = this.#seen.at(-1);
    // The node began anew.
    if (last && count < last.count) this.#seen = [];
    this.#seen.push({ at, count });
    this.#seen = this.#seen.filter((one) => at - one.at <= KEPT);
  }

  /** Per second. */
  rate(at = this.#seen.length - 1) {
    const newest = this.#seen[at];
    const oldest = this.#seen.slice(0, at).find((one) => newest.at - one.at <= OVER);
    return oldest && newest.at - oldest.at >= LEAST ? ((newest.count - oldest.count) * 1000) / (newest.at - oldest.at) : 0;
  }

  rates() {
    return this.#seen.map((one, at) => ({ at: one.at, rate: this.rate(at) })).slice(2);
  }
}

const OUTCOMES = {
  granted: 'given', denied: 'no permission', not_yet: 'not yet', expired: 'time over', unknown_key: 'unknown key', throttled: 'too many',
  policy: 'by policy', unavailable: 'could not check', unacceptable_algorithm: 'algorithm', nothing: 'no such keys', refused: 'refused',
  unanswered: 'not answered',
};

/** Shows `node` in `place`. */
export function figures(place, node, published, received) {
  const cards = [
    { key: 'published', title: 'Messages published', value: rate(published.rate()), unit: 'per second', note: `${number(node.messages_published)} in all`, line: published.rates() },
    { key: 'received', title: 'Messages received', value: rate(received.rate()), unit: 'per second', note: `${number(node.messages_received)} in all`, line: received.rates() },
    { key: 'requests', title: 'Key requests', bars: node.key_requests },
    { key: 'peers', title: 'Peers', value: number(node.peers), unit: 'connected', note: `keys: ${number(node.keys_rekeyed)} rekeyed, ${number(node.keys_rotated)} rotated` },
  ];
  each(place, cards, (card) => card.key, create, update);
}

function create(card) {
  const made = make('section', { class: 'card figure', 'aria-label': card.title }, make('h3', {}, card.title));
  if (card.bars) made.append(make('ul', { class: 'bars' }), make('p', { class: 'quiet none' }));
  else made.append(make('p', { class: 'value' }, make('span', { class: 'big' }), ' ', make('span', { class: 'unit quiet' })), make('p', { class: 'note quiet' }));
  if (card.line) made.append(draw('svg', { class: 'spark', viewBox: '0 0 120 28', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, draw('path', {})));
  return made;
}

function update(element, card) {
  if (card.bars) return bars(element, card.bars);
  say(element.querySelector('.big'), card.value);
  say(element.querySelector('.unit'), card.unit);
  say(element.querySelector('.note'), card.note);
  if (card.line) spark(element.querySelector('path'), card.line);
}

function bars(element, counts) {
  const some = counts.filter((one) => one.count > 0);
  const most = Math.max(1, ...some.map((one) => one.count));
  say(element.querySelector('.none'), some.length ? '' : 'Nobody has asked for a key yet.');
  each(element.querySelector('ul'), some, (one) => one.outcome, () => make('li', {},
    make('span', { class: 'name' }), draw('svg', { viewBox: '0 0 100 6', preserveAspectRatio: 'none', 'aria-hidden': 'true' }, draw('rect', { height: 6 })),
    make('span', { class: 'count' })),
  (row, one) => {
    say(row.querySelector('.name'), OUTCOMES[one.outcome] ?? one.outcome);
    say(row.querySelector('.count'), number(one.count));
    row.querySelector('rect').setAttribute('width', Math.max(1.5, (one.count / most) * 100));
    row.querySelector('rect').setAttribute('class', one.outcome === 'granted' ? 'good' : 'other');
  });
}

function spark(path, rates) {
  if (rates.length < 4) return path.setAttribute('d', '');
  const most = Math.max(1, ...rates.map((one) => one.rate));
  const end = rates.at(-1).at;
  const drawn = Math.min(KEPT, Math.max(20_000, end - rates[0].at));
  const point = (one) => `${(120 - ((end - one.at) / drawn) * 120).toFixed(1)},${(26 - (one.rate / most) * 24).toFixed(1)}`;
  path.setAttribute('d', `M${rates.map(point).join('L')}`);
}

/** What the alerts are, the grave ones first. */
export function alerts(place, list) {
  const sorted = [...list].sort((one, other) => (one.level === 'error' ? 0 : 1) - (other.level === 'error' ? 0 : 1));
  const shown = sorted.length ? sorted : [{ code: 'none', level: 'fine', message: 'Nothing needs your attention.' }];
  each(place, shown, (one) => `${one.code} ${one.stream ?? ''}`, () => make('li', {}, make('strong', {}), make('span', {})), (row, one) => {
    row.className = `alert ${one.level}`;
    say(row.firstChild, { error: 'Error', warning: 'Warning', fine: 'All well' }[one.level] ?? one.level);
    say(row.lastChild, one.message);
  });
  return plural(sorted.length, 'alert', 'alerts');
}
