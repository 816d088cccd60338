// Where a contract decides: what a transaction costs, that it is meant, and what became of it.

import { ask, Fault, of } from './api.js';
import { byId, make, say } from './dom.js';
import { number } from './format.js';

// Longer than the node waits for a block.
const SENDING = 240_000;
const LOOK = 1500;
const GWEI = 1_000_000_000n;

/** An amount in coins, up to the gwei it begins: a price is never shown smaller than it is. */
export function coins(wei, coin) {
  const gwei = (BigInt(wei) + GWEI - 1n) / GWEI;
  const rest = String(gwei % GWEI).padStart(9, '0').replace(/0+$/, '');
  return `${gwei / GWEI}${rest ? `.${rest}` : ''} ${coin ?? "of the chain's coin"}`;
}

/** What a button says that sends it. */
export const priced = (name, contract) => (contract?.quote ? `${name} for at most ${coins(contract.quote.max_cost_wei, contract.coin)}` : name);

/** That what was shown may be spent, and no more. */
export const consent = (contract) => (contract ? { confirm: true, max_cost_wei: contract.quote.max_cost_wei } : {});

/** Asks, for as long as it takes to get into a block. */
export const send = (contract, path, options) => ask(path, contract ? { ...options, patience: SENDING } : options);

export const WAITING = 'Sending it, and waiting until it is in a block. That may take up to three minutes, and goes on if this is closed.';

/** Whether it may have been sent all the same: then nobody should send it again before having looked. */
export const isUnsettled = (contract, fault) => Boolean(contract) && (fault.code === 'pending' || fault.status === 0);

export function unsettled(fault) {
  const lines = [fault.status === 0 ? 'The node did not tell what became of it: it may have been sent.' : fault.message,
    'Look for it, with a block explorer or in the list of subscribers, before you do the same again: that would cost gas once more.'];
  return { title: 'Not settled yet', lines };
}

/** What it cost, and where it is. */
export function receipt(told, contract) {
  return contract ? [`Transaction ${told.transaction} is in block ${number(told.block)}, and cost ${coins(told.cost_wei, contract.coin)}.`] : [];
}

/** A line that follows a transaction until this node goes by it, while `isShown()`. */
export function following(stream, told, { contract, isShown, counts, words }) {
  if (!contract) return [];
  const line = make('p', { id: 'following', role: 'status' }, 'Waiting for this node to see it…');
  follow(line, stream, told, { isShown, counts, words });
  return [line];
}

async function follow(line, stream, told, { isShown, counts, words }) {
  const path = `${of(stream, 'timeline')}?${new URLSearchParams({ find: told.user })}`;
  for (;;) {
    await new Promise((resolve) => { setTimeout(resolve, LOOK); });
    if (!isShown() || !byId(line.id)) return;
    let seen;
    try {
      seen = await ask(path);
    } catch (fault) {
      if (!(fault instanceof Fault)) throw fault;
      if (fault.status === 401) return;
      continue;
    }
    const { contract, subscribers } = seen;
    const row = subscribers.list?.find((one) => one.user === told.user);
    if (row && counts(row)) return say(line, words);
    say(line, progress(told, contract, row));
  }
}

/** A grant counts some blocks after its own, what is taken back at once. */
function progress(told, contract, row) {
  if (!contract.caught_up) return `This node still reads the contract's events: it is at block ${number(contract.block)} of ${number(contract.head)}.`;
  const needed = told.block + (told.until === undefined ? 0 : contract.confirmations);
  if (contract.block < needed) return `It counts from block ${number(needed)} on; this node has seen block ${number(contract.block)}.`;
  return row ? 'This node has not seen it yet.' : 'This node does not list it yet.';
}
