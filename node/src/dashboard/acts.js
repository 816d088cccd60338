// Rotate, rekey, grant and revoke: each in a dialog that first shows what the node says it will do, and to whom.

import { ask, Fault, of } from './api.js';
import { consent, following, isUnsettled, priced, receipt, send, unsettled, WAITING } from './chain.js';
import { byId, make, say } from './dom.js';
import { plural, short } from './format.js';

const dialog = byId('dialog');
let latest = 0;
// Where focus goes back to, also when what was pressed is no longer there.
let opener = null;

dialog.addEventListener('close', () => {
  // Told late: another may be open by now.
  if (dialog.open) return;
  latest += 1;
  dialog.replaceChildren();
  if (opener?.isConnected) opener.focus();
  else byId('detail').focus();
});

function open(title, ...content) {
  opener = document.activeElement;
  dialog.replaceChildren(make('h2', { id: 'dialog-title' }, title), ...content);
  dialog.showModal();
}

function buttons(label, done) {
  const go = make('button', { type: 'submit', class: 'primary', id: 'go', disabled: true }, label);
  const cancel = make('button', { type: 'button', id: 'cancel', onclick: () => dialog.close() }, 'Cancel');
  return { go, row: make('div', { class: 'buttons' }, cancel, go), cancel, done };
}

/** Asks what an act would do, and shows it; a later question makes an earlier answer void. */
async function foresee(place, stream, query) {
  const turn = ++latest;
  place.setAttribute('aria-busy', 'true');
  place.replaceChildren(make('p', { class: 'quiet' }, 'Looking at what this will do…'));
  let told;
  try {
    told = await ask(`${of(stream, 'predict')}?${new URLSearchParams(query)}`);
  } catch (fault) {
    told = { says: [], refused: null, fault: fault.message };
  }
  if (turn !== latest) return null;
  place.removeAttribute('aria-busy');
  place.replaceChildren(...sentences(told));
  return told;
}

function sentences(told) {
  const said = told.says.map((line) => make('li', {}, line));
  const shown = [said.length ? make('ul', { class: 'says' }, said) : null, lists(told)];
  if (told.refused) shown.unshift(make('p', { class: 'fault' }, told.refused));
  if (told.fault) shown.unshift(make('p', { class: 'fault' }, `What it will do cannot be told now: ${told.fault}`));
  return shown.flat().filter(Boolean);
}

const LISTS = [['reads_on', 'read on'], ['will_ask', 'will ask for a key'], ['shut_out', 'get no key'], ['ended', 'ended since the last rekey']];

function lists(told) {
  return LISTS.filter(([name]) => told[name]?.count > 0).map(([name, words]) => {
    const { count, users } = told[name];
    const names = users.map((one) => make('li', {}, make('code', {}, one.user), one.reason ? ` ${one.reason}` : ''));
    if (count > users.length) names.push(make('li', {}, `and ${count - users.length} more`));
    return make('details', {}, make('summary', {}, `${count} ${words}`), make('ul', { class: 'names' }, names));
  });
}

/**
 * Does it; what came of it takes the dialog's place, or is said where that was closed meanwhile. Of a transaction, `contract` is what
 * was foretold of it, and `again` foretells it anew.
 */
async function carry(form, done, act, { contract = null, again = null } = {}) {
  const turn = ++latest;
  const fault = form.querySelector('.outcome');
  const waiting = form.querySelector('.waiting');
  const pressed = [...form.querySelectorAll('button, input, select')].filter((one) => !one.disabled && !(contract && one.id === 'cancel'));
  pressed.forEach((one) => { one.disabled = true; });
  say(fault, '');
  say(waiting, contract ? WAITING : '');
  try {
    show(await act(() => turn === latest), turn, done);
  } catch (error) {
    if (!(error instanceof Fault)) throw error;
    if (isUnsettled(contract, error)) return show(unsettled(error), turn, done);
    if (turn !== latest) return done(`Not done: ${error.message}`);
    pressed.forEach((one) => { one.disabled = false; });
    say(waiting, '');
    say(fault, error.message);
    if (again && (error.code === 'confirm' || error.code === 'too_dear')) again();
  }
}

function show({ title, lines, extra }, turn, done) {
  if (turn === latest) {
    const close = make('button', { type: 'button', class: 'primary', id: 'done', onclick: () => dialog.close() }, 'Done');
    dialog.replaceChildren(make('h2', { id: 'dialog-title' }, title), ...lines.map((line) => make('p', {}, line)),
      ...(extra ?? []), make('div', { class: 'buttons' }, close));
    close.focus();
  }
  done(title);
}

function form(content, submit) {
  const made = make('form', { onsubmit: (event) => { event.preventDefault(); submit(made); } }, content,
    make('p', { class: 'quiet waiting', role: 'status' }), make('p', { class: 'fault outcome', role: 'alert' }));
  made.append(made.querySelector('.buttons'));
  return made;
}

const prediction = () => make('div', { class: 'prediction', 'aria-live': 'polite' });

export async function rekey(stream, done) {
  const place = prediction();
  const { go, row, cancel } = buttons('Rekey now');
  const path = of(stream, 'keys', 'rekey');
  open('Rekey', make('p', { class: 'quiet' }, 'A new key from the next message on, sent to each subscriber separately after a check.'),
    form([place, row], (made) => carry(made, done, async () => rekeyed(await ask(path, { method: 'POST', body: {} })))));
  cancel.focus();
  const told = await foresee(place, stream, { act: 'rekey' });
  if (told) ready(go, !told.refused);
}

function ready(go, may) {
  go.disabled = !may;
  if (may && document.activeElement === byId('cancel')) go.focus();
}

function rekeyed(report) {
  const lines = [`The key in use is ${report.key_id} now.`, `${plural(report.pushed.length, 'subscriber has', 'subscribers have')} it already, `
    + `${plural(report.must_pull.length, 'asks', 'ask')} for it when needed, ${plural(report.refused.length, 'does', 'do')} not get it.`];
  return { title: 'Rekeyed', lines };
}

export async function rotate(stream, done) {
  const place = prediction();
  const { go, row, cancel } = buttons('Rotate');
  const force = make('input', { type: 'checkbox', id: 'regardless' });
  const forcing = make('label', { class: 'check', hidden: true }, force, 'Rotate all the same, and let them read on');
  const path = of(stream, 'keys', 'rotate');
  open('Rotate', make('p', { class: 'quiet' }, 'The next key rides in the next message, wrapped in the current one. Cheap; nobody is checked again.'),
    form([place, forcing, row], (made) => carry(made, done, async () => {
      const told = await ask(path, { method: 'POST', body: { regardless: force.checked } });
      return { title: 'Rotated', lines: [`Key ${told.key_id} goes out with the next message.`] };
    })));
  cancel.focus();
  const told = await foresee(place, stream, { act: 'rotate' });
  if (!told) return;
  forcing.hidden = !told.can_force;
  force.addEventListener('change', () => { go.disabled = !force.checked; });
  ready(go, !told.refused);
  if (told.can_force) force.focus();
}

const LASTING = [['1 day', '1d'], ['7 days', '7d'], ['30 days', '30d'], ['1 year', '365d'], ['Until a date', 'until'], ['Without an end', '']];

export function grant(stream, done, user = '') {
  const place = prediction();
  const { go, row } = buttons('Grant');
  const who = make('input', { id: 'grant-user', value: user, required: true, spellcheck: 'false', autocomplete: 'off', placeholder: '0x…' });
  const lasting = make('select', { id: 'grant-for' }, LASTING.map(([name, value]) => make('option', { value, selected: value === '30d' }, name)));
  const until = make('input', { id: 'grant-until', type: 'datetime-local', step: '1' });
  const date = make('div', { class: 'field', hidden: true }, make('label', { for: 'grant-until' }, 'Until, in local time'), until);
  const period = () => {
    if (lasting.value !== 'until') return lasting.value ? { for: lasting.value } : {};
    const at = new Date(until.value).getTime();
    return Number.isNaN(at) ? null : { until: String(at) };
  };
  let contract = null;
  const look = async () => {
    date.hidden = lasting.value !== 'until';
    go.disabled = true;
    const chosen = period();
    if (!/^0x[0-9a-fA-F]{40}$/.test(who.value.trim()) || !chosen) {
      latest += 1;
      place.replaceChildren(make('p', { class: 'quiet' }, 'Say who, an address of 0x and 40 hex digits, and until when.'));
      return;
    }
    const told = await foresee(place, stream, { act: 'grant', user: who.value.trim(), ...chosen });
    if (!told) return;
    contract = told.contract ?? null;
    say(go, priced('Grant', contract));
    go.disabled = Boolean(told.refused);
  };
  for (const one of [who, lasting, until]) one.addEventListener('input', look);
  open('Grant', form([
    make('div', { class: 'field' }, make('label', { for: 'grant-user' }, 'Subscriber'), who),
    make('div', { class: 'field' }, make('label', { for: 'grant-for' }, 'Paid time'), lasting), date, place, row,
  ], (made) => carry(made, done, async (isShown) => {
    const body = { user: who.value.trim(), permission: 'subscribe', ...period(), ...consent(contract) };
    return granted(stream, await send(contract, of(stream, 'permissions'), { method: 'POST', body }), contract, isShown);
  }, { contract, again: look })));
  (user ? lasting : who).focus();
  look();
}

function granted(stream, told, contract, isShown) {
  const lines = [contract ? `The grant of ${short(told.user)} is on the contract.` : `${short(told.user)} may read.`, ...receipt(told, contract)];
  if (!told.grant) {
    // The contract has whole seconds.
    const counts = (row) => ['active', 'denied'].includes(row.status) && Math.abs((row.until ?? 0) - (told.until ?? 0)) < 1000;
    return { title: 'Granted', lines, extra: following(stream, told, { contract, isShown, counts, words: 'The grant counts now.' }) };
  }
  const proof = make('textarea', { readonly: true, rows: '5', 'aria-label': 'The stream record and the grant', onfocus: (event) => event.target.select() });
  proof.value = [told.record, told.grant].filter(Boolean).join('\n');
  lines.push('The subscriber shows these lines, that you signed, to whoever publishes:');
  return { title: 'Granted', lines, extra: [proof] };
}

export async function revoke(stream, user, done) {
  const place = prediction();
  const { go, row, cancel } = buttons('Take back');
  go.classList.add('danger');
  let contract = null;
  const look = async () => {
    go.disabled = true;
    const told = await foresee(place, stream, { act: 'revoke', user });
    if (!told) return;
    contract = told.contract ?? null;
    say(go, priced('Take back', contract));
    ready(go, !told.refused);
  };
  open('Take back', make('p', {}, make('code', {}, user)), form([place, row], (made) => carry(made, done, async (isShown) => {
    const path = `${of(stream, 'permissions', user)}${contract ? `?${new URLSearchParams(consent(contract))}` : ''}`;
    return takenBack(stream, await send(contract, path, { method: 'DELETE' }), contract, isShown);
  }, { contract, again: look })));
  cancel.focus();
  look();
}

function takenBack(stream, told, contract, isShown) {
  const lines = [`${short(told.user)} gets no further key${contract ? ' once this node sees it' : ''}.`, ...receipt(told, contract)];
  const proof = told.record ? [make('textarea', { readonly: true, rows: '4', 'aria-label': 'The new stream record' }, told.record)] : [];
  const counts = (row) => row.status !== 'active' && row.status !== 'not_yet';
  const seen = following(stream, told, { contract, isShown, counts, words: 'It is taken back: they are given no key any more.' });
  return { title: 'Taken back', lines, extra: [...proof, ...seen] };
}
