// Asking the node. The API key is in this tab's session storage and goes along as a header, never as a cookie: no other page can
// make the browser send it.

const PLACE = 'veilcast.api-key';
const PATIENCE = 15_000;

/** Why a request was not done: `status` 0 where the node did not answer. */
export class Fault extends Error {
  constructor(status, code, message) {
    super(message);
    this.status = status;
    this.code = code;
  }
}

export const apiKey = {
  get: () => sessionStorage.getItem(PLACE),
  keep: (key) => sessionStorage.setItem(PLACE, key),
  forget: () => sessionStorage.removeItem(PLACE),
};

/** The answer, of JSON, within so many milliseconds. */
export async function ask(path, { method = 'GET', body, key = apiKey.get(), patience = PATIENCE } = {}) {
  if (!/^[\x21-\x7e]+$/.test(key ?? '')) throw new Fault(401, 'unauthorized', 'That cannot be an API key.');
  const headers = { Accept: 'application/json', Authorization: `Bearer ${key}` };
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  let response;
  try {
    response = await fetch(path, {
      method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store',
      credentials: 'omit', redirect: 'error', referrerPolicy: 'no-referrer', signal: AbortSignal.timeout(patience),
    });
  } catch {
    throw new Fault(0, 'no_answer', 'The node does not answer.');
  }
  const told = await response.json().catch(() => ({}));
  if (response.ok) return told;
  throw new Fault(response.status, told.code ?? 'unknown', told.message ?? `The node answered ${response.status}.`);
}

/** Where a stream is, and what of it. */
export const of = (stream, ...rest) => ['streams', encodeURIComponent(stream), ...rest].join('/');
