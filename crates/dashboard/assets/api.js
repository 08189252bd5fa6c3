// Asks the dashboard's API, and follows its stream.

/** Sends a GET request and returns its JSON. The error has the server's sentence. */
export async function get(path) {
  const response = await fetch(path, { headers: { accept: 'application/json' }, credentials: 'same-origin' });
  return answer(response);
}

export async function post(path, body) {
  const response = await fetch(path, {
    method: 'POST',
    headers: { accept: 'application/json', 'content-type': 'application/json' },
    credentials: 'same-origin',
    body: JSON.stringify(body),
  });
  return answer(response);
}

async function answer(response) {
  if (response.status === 401) {
    location.assign('/sign-in');
    throw new Error('signed out');
  }
  const body = await response.json().catch(() => ({}));
  if (!response.ok) {
    const first = body.errors?.[0];
    throw new Error(body.error ?? first?.detail ?? `the server answers ${response.status}`);
  }
  return body;
}

export function query(path, parameters) {
  const pairs = Object.entries(parameters).filter(([, value]) => value !== '' && value !== null && value !== undefined);
  const text = new URLSearchParams(pairs).toString();
  return text ? `${path}?${text}` : path;
}

/**
 * Follows the stream after a revision of the changes. `on` has a function for each event, and `state(isLive)`. The browser connects
 * again by itself, with the id of the last event, unless it gives up: this function connects again then, and loses no change either.
 */
export function follow(on, after) {
  const source = new EventSource(query('/api/v1/stream', { after }));
  let failures = 0;
  source.addEventListener('open', () => {
    failures = 0;
    on.state(true);
  });
  source.addEventListener('error', async () => {
    on.state(false);
    failures += 1;
    // The browser gives up after an answer that is no stream.
    if (source.readyState === EventSource.CLOSED) {
      setTimeout(() => follow(on, after), Math.min(1000 * failures, 10_000));
      await get('/api/v1/me').catch(() => {});
    }
  });
  for (const name of ['change', 'picture', 'skipped']) {
    source.addEventListener(name, (event) => {
      if (event.lastEventId) after = event.lastEventId;
      on[name]?.(JSON.parse(event.data));
    });
  }
  return source;
}
