// The dashboard of a node: log in, look each second, show what changed.

import { rekey, rotate, grant, revoke } from './acts.js';
import { apiKey, ask, Fault, of } from './api.js';
import { byId, draw, each, make, say } from './dom.js';
import { alerts, Counts, figures } from './figures.js';
import { away, number, parts, plural, rate, short, when, whenExactly } from './format.js';
import { inWords, lanesOf, SPANS, STATUS, timeline } from './timeline.js';

const EVERY = 1000;
const DETAIL_EVERY = 2000;
const ROWS = 100;

const state = {
  overview: null, published: new Counts(), received: new Counts(), streams: new Map(), detail: null, span: 0, filter: '',
  turn: 0, looked: 0, asked: null,
};

// Logging in and out.

function showLogin(message = '') {
  state.turn += 1;
  apiKey.forget();
  Object.assign(state, { overview: null, detail: null, asked: null, published: new Counts(), received: new Counts(), streams: new Map() });
  byId('dialog').close();
  byId('detail').replaceChildren();
  byId('board').hidden = true;
  byId('login').hidden = false;
  say(byId('login-fault'), message);
  byId('login-key').value = '';
  byId('login-key').focus();
}

byId('login-form').addEventListener('submit', async (event) => {
  event.preventDefault();
  const key = byId('login-key').value.trim();
  say(byId('login-fault'), '');
  try {
    const overview = await ask('overview', { key });
    apiKey.keep(key);
    enter(overview);
  } catch (fault) {
    const wrong = fault.status === 401;
    say(byId('login-fault'), wrong ? 'This API key is not known here.' : fault.message);
    byId('login-key').select();
  }
});

byId('logout').addEventListener('click', () => showLogin());

document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  byId('detail').focus();
});

function enter(overview) {
  byId('login').hidden = true;
  byId('board').hidden = false;
  byId('login-key').value = '';
  const turn = ++state.turn;
  if (overview) take(overview);
  watch(turn);
}

// Looking.

async function watch(turn) {
  while (turn === state.turn) {
    if (!document.hidden) await look(turn);
    await new Promise((resolve) => { setTimeout(resolve, EVERY); });
  }
}

async function look(turn) {
  try {
    const overview = await ask('overview');
    if (turn !== state.turn) return;
    take(overview);
    if (Date.now() - state.looked >= DETAIL_EVERY) await lookCloser(turn);
    offline('');
  } catch (fault) {
    if (turn !== state.turn) return;
    if (!(fault instanceof Fault)) throw fault;
    if (fault.status === 401) showLogin('This API key opens nothing any more: it was revoked.');
    else offline(`${fault.message} What is shown is from before; trying again.`);
  }
}

/** Keys and subscribers of the stream that is shown, as far as the API key allows it. */
async function lookCloser(turn) {
  const stream = chosen();
  if (!stream) return;
  state.looked = Date.now();
  const find = state.filter ? `?${new URLSearchParams({ find: state.filter })}` : '';
  let told;
  try {
    told = await ask(of(stream.id, 'timeline') + find);
  } catch (fault) {
    if (!(fault instanceof Fault) || fault.status === 0 || fault.status === 401) throw fault;
    told = { keys: { fault: fault.message }, subscribers: { fault: fault.message } };
  }
  if (turn !== state.turn || chosen()?.id !== stream.id) return;
  state.detail = { id: stream.id, ...told };
  showDetail();
}

function again() {
  state.looked = 0;
  look(state.turn);
}

document.addEventListener('visibilitychange', () => { if (!document.hidden && !byId('board').hidden) again(); });

function offline(message) {
  byId('offline').hidden = message === '';
  say(byId('offline'), message);
}

// Showing.

function take(overview) {
  state.overview = overview;
  const { node, now } = overview;
  if (node) {
    state.published.add(now, node.messages_published);
    state.received.add(now, node.messages_received);
    figures(byId('figures'), node, state.published, state.received);
  } else {
    byId('figures').replaceChildren(make('p', { class: 'card quiet' }, 'This API key shows streams only: figures of the whole node need the verb admin on all streams.'));
  }
  say(byId('node-line'), node ? `${node.identity}, ${node.registry} registry, version ${node.version}` : `logged in as ${overview.api_key}`);
  const troubles = overview.alerts.filter((one) => one.level === 'error').length;
  say(byId('state'), troubles ? plural(troubles, 'error', 'errors') : 'running');
  byId('state').className = troubles ? 'state bad' : 'state good';
  alerts(byId('alerts'), overview.alerts);
  for (const stream of overview.streams) {
    if (stream.messages_published === null) continue;
    if (!state.streams.has(stream.id)) state.streams.set(stream.id, new Counts());
    state.streams.get(stream.id).add(now, stream.messages_published);
  }
  showStreams();
}

function chosen() {
  const streams = state.overview?.streams ?? [];
  let named = '';
  try {
    named = decodeURIComponent(location.hash.slice(1));
  } catch {
    // A fragment that nobody here wrote names no stream.
  }
  return streams.find((stream) => stream.id === named) ?? streams[0];
}

window.addEventListener('hashchange', () => {
  if (byId('board').hidden) return;
  state.detail = null;
  state.filter = '';
  showStreams();
  byId('detail').focus();
  again();
});

function showStreams() {
  const { streams, more_streams: more } = state.overview;
  const current = chosen();
  each(byId('streams'), streams, (stream) => stream.id, (stream) => {
    const { owner, path } = parts(stream.id);
    return make('li', {}, make('a', { href: `#${encodeURIComponent(stream.id)}`, title: stream.id },
      make('span', { class: 'path' }, path), make('span', { class: 'quiet owner' }, `of ${short(owner)}`), make('span', { class: 'quiet about' })));
  }, (row, stream) => {
    const link = row.firstChild;
    if (stream === current) link.setAttribute('aria-current', 'true');
    else link.removeAttribute('aria-current');
    const counts = state.streams.get(stream.id);
    const pace = counts ? `${rate(counts.rate())}/s` : '';
    say(link.querySelector('.about'), [access(stream), stream.partitions && plural(stream.partitions, 'partition', 'partitions'), pace].filter(Boolean).join(', '));
  });
  const empty = byId('streams-empty');
  empty.hidden = streams.length > 0 && !more;
  say(empty, more ? 'There are more streams than are shown here.' : 'No stream yet. Make one with: veilcast stream create PATH');
  if (current && state.detail?.id !== current.id) {
    // The list scrolls in a box of its own: whatever is chosen is to be seen in it.
    byId('streams').querySelector('[aria-current]')?.scrollIntoView({ block: 'nearest' });
    showDetail();
  }
  if (!current) byId('detail').replaceChildren(make('p', { class: 'card quiet' }, 'Nothing to show until there is a stream that this API key is for.'));
}

const access = (stream) => (stream.public === null ? 'not on record now' : stream.public ? 'public' : 'encrypted');

function showDetail() {
  const stream = chosen();
  if (!stream) return;
  const place = byId('detail');
  if (place.dataset.stream !== stream.id || !place.firstElementChild?.classList.contains('head')) {
    place.dataset.stream = stream.id;
    place.replaceChildren(...skeleton(stream));
  }
  const detail = state.detail?.id === stream.id ? state.detail : null;
  if (!detail) return;
  const keys = detail.keys.list ?? [];
  const subscribers = detail.subscribers.list ?? [];
  picture(detail, keys, subscribers);
  subscriberTable(stream, detail, keys, subscribers);
  keyTable(detail, keys);
}

function skeleton(stream) {
  const { owner, path } = parts(stream.id);
  const did = (words) => { say(byId('said'), `${words}: ${path}`); again(); };
  const may = (verb) => stream.may.includes(verb);
  const why = (verb) => (may(verb) ? null : `This API key does not allow ${verb} here.`);
  const act = (id, name, verb, run) => make('button', { type: 'button', id, disabled: !may(verb), title: why(verb), onclick: run }, name);
  const choose = make('fieldset', { class: 'spans' }, make('legend', { class: 'visually-hidden' }, 'Time shown'), SPANS.map(([name, span]) =>
    make('label', {}, make('input', { type: 'radio', name: 'span', value: span, checked: span === state.span, onchange: () => { state.span = span; showDetail(); } }), make('span', {}, name))));
  const find = make('input', { id: 'find', type: 'search', placeholder: 'Find an address', 'aria-label': 'Find a subscriber by address', spellcheck: 'false',
    oninput: (event) => { state.filter = event.target.value.trim().toLowerCase(); again(); } });
  return [
    make('div', { class: 'head' }, make('div', { class: 'title' }, make('h2', {}, path), make('p', { class: 'quiet', title: owner }, `of ${owner}`)),
      make('div', { class: 'acts', role: 'group', 'aria-label': 'What can be done' },
        act('grant', 'Grant…', 'permissions', () => grant(stream.id, did)),
        act('rotate', 'Rotate…', 'keys', () => rotate(stream.id, did)),
        act('rekey', 'Rekey…', 'keys', () => rekey(stream.id, did)))),
    make('section', { class: 'card', 'aria-labelledby': 'picture-title' },
      make('div', { class: 'row' }, make('h3', { id: 'picture-title' }, 'Who can read what'), choose),
      draw('svg', { id: 'timeline', role: 'img', 'aria-labelledby': 'picture-title', 'aria-describedby': 'picture-words' }),
      make('p', { id: 'picture-words', class: 'quiet' }, 'Looking…'), legend()),
    make('section', { class: 'card', 'aria-labelledby': 'subscribers-title' },
      make('div', { class: 'row' }, make('h3', { id: 'subscribers-title' }, 'Subscribers'), find),
      make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-labelledby': 'subscribers-title' }, make('table', { id: 'subscribers' }, head(['Who', 'Paid from', 'Until', 'State', 'Newest key given', '']), make('tbody'))),
      make('p', { id: 'subscribers-words', class: 'quiet' }, 'Looking…')),
    make('section', { class: 'card', 'aria-labelledby': 'keys-title' }, make('h3', { id: 'keys-title' }, 'Keys'),
      make('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-labelledby': 'keys-title' }, make('table', { id: 'keys' }, head(['Fingerprint', 'Current from', 'Until', 'Origin', 'Key id']), make('tbody'))),
      make('p', { id: 'keys-words', class: 'quiet' }, 'Looking…')),
  ];
}

const head = (names) => make('thead', {}, make('tr', {}, names.map((name) => (name ? make('th', { scope: 'col' }, name) : make('td', {})))));

function legend() {
  const sample = (kind, words) => make('li', {}, draw('svg', { viewBox: '0 0 22 12', 'aria-hidden': 'true' },
    draw('rect', { x: 0.5, y: kind === 'reach' ? 8 : 0.5, width: 21, height: kind === 'reach' ? 3 : 11, rx: 2, class: kind })), words);
  return make('ul', { class: 'legend quiet' }, sample('key current', 'key in use'), sample('key even', 'earlier key'), sample('paid active', 'paid time'),
    sample('paid expired', 'paid, and over'), sample('ahead', 'paid ahead'), sample('reach', 'keys given'));
}

function picture(detail, keys, subscribers) {
  const svg = byId('timeline');
  const faults = [detail.keys.fault, detail.subscribers.fault].filter(Boolean);
  const lanes = lanesOf(subscribers);
  const width = Math.floor(svg.parentElement.clientWidth - 32);
  // What did not change is not drawn again: titles under the pointer stay.
  const step = Math.floor(state.overview.now / 5000);
  const asked = JSON.stringify([detail.id, detail.keys, detail.subscribers, state.span, state.filter, width, step]);
  if (asked === state.asked && svg.firstChild) return;
  state.asked = asked;
  if (keys.length + lanes.length === 0) {
    svg.replaceChildren();
    svg.setAttribute('height', 0);
    return say(byId('picture-words'), faults[0] ?? 'No key and no subscriber yet: the first key is made with the first message.');
  }
  const note = timeline(svg, { keys, lanes, span: state.span, now: state.overview.now, width });
  say(byId('picture-words'), [inWords(keys, lanes), note, ...faults].filter(Boolean).join(' '));
}

function subscriberTable(stream, detail, keys, subscribers) {
  const { now } = state.overview;
  const { found = 0, total = 0 } = detail.subscribers;
  const shown = subscribers.slice(0, ROWS);
  const names = new Map(keys.map((key) => [key.key_id, key]));
  const may = stream.may.includes('permissions');
  const did = (words) => { say(byId('said'), words); again(); };
  each(byId('subscribers').tBodies[0], shown, (one) => `${one.user} ${one.since} ${one.status}`, (one) => make('tr', {},
    make('th', { scope: 'row' }, make('code', { title: one.user }, short(one.user))), make('td', {}), make('td', {}), make('td', {}, make('span', { class: `tag ${one.status}` })), make('td', {}),
    make('td', { class: 'do' }, one.status === 'active' || one.status === 'not_yet'
      ? make('button', { type: 'button', class: 'small', disabled: !may, 'aria-label': `Take back from ${one.user}`, onclick: () => revoke(stream.id, one.user, did) }, 'Take back…')
      : make('button', { type: 'button', class: 'small', disabled: !may, 'aria-label': `Grant ${one.user} again`, onclick: () => grant(stream.id, did, one.user) }, 'Grant…'))),
  (row, one) => {
    const cells = row.cells;
    moment(cells[1], one.since, now, 'the beginning');
    moment(cells[2], one.until, now, 'no end');
    say(cells[3].firstChild, STATUS[one.status] ?? one.status);
    const key = names.get(one.last_key);
    say(cells[4], key ? `${key.fingerprint.slice(0, 8)}${key.current ? ', in use' : ''}` : one.last_key ? one.last_key.slice(0, 8) : 'none');
  });
  const words = found > shown.length ? `The first ${ROWS} of ${number(found)}; find others by their address.`
    : found ? '' : total ? 'No subscriber has such an address.' : 'Nobody has a grant yet.';
  say(byId('subscribers-words'), detail.subscribers.fault ?? words);
}

function keyTable(detail, keys) {
  const { now } = state.overview;
  const shown = keys.slice(-ROWS).reverse();
  each(byId('keys').tBodies[0], shown, (key) => key.key_id, (key) => make('tr', {}, make('th', { scope: 'row' }, make('code', {}, key.fingerprint)),
    make('td', {}), make('td', {}), make('td', {}, { made: 'made here', received: 'received', pre_agreed: 'agreed on' }[key.origin] ?? key.origin), make('td', {}, make('code', { class: 'quiet' }, key.key_id))),
  (row, key) => {
    moment(row.cells[1], key.since, now, '');
    moment(row.cells[2], key.current ? null : key.until, now, key.current ? 'in use' : 'not known');
    row.classList.toggle('current', key.current);
  });
  const words = keys.length > shown.length || detail.keys.more ? `The newest ${shown.length}; there are more.` : keys.length ? '' : 'No key yet: the first one is made with the first message.';
  say(byId('keys-words'), detail.keys.fault ?? words);
}

function moment(cell, millis, now, none) {
  const known = millis !== null && millis !== undefined;
  if (!cell.firstChild) cell.append(make('span', { class: 'date' }), make('span', { class: 'away' }));
  say(cell.firstChild, known ? when(millis) : '');
  say(cell.lastChild, known ? away(millis, now) : none);
  if (known) cell.title = whenExactly(millis);
}

new ResizeObserver(() => { if (state.detail && !byId('board').hidden) showDetail(); }).observe(byId('detail'));

if (apiKey.get()) enter();
else showLogin();
