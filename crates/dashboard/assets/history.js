// The past of a router's table: a time line of its changes, and the table as it was.

import { get, query } from './api.js';
import { fill, h } from './dom.js';
import { exact, plural, timeOfDay } from './format.js';

const BINS = 120;

/** Returns how many changes there were in each part of a time, as shares of the most. It is pure. */
export function density(times, from, to, bins = BINS) {
  const counts = new Array(bins).fill(0);
  const width = Math.max(to - from, 1) / bins;
  for (const time of times) {
    const at = Math.floor((time - from) / width);
    if (at >= 0) counts[Math.min(at, bins - 1)] += 1;
  }
  const most = Math.max(...counts, 1);
  return counts.map((count) => count / most);
}

export async function historyPage(root) {
  const status = h('p.small.soft', { role: 'status' }, 'Reading …');
  const rows = h('div');
  const find = h('input', { type: 'search', placeholder: 'a host, or a part of one' });
  const chosen = h('output', { for: 'moment' });
  const slider = h('input', { type: 'range', id: 'moment', min: 0, max: 1000, value: 1000, 'aria-label': 'The time of the table' });
  const bars = h('div.density', { 'aria-hidden': 'true' });
  const ends = h('div.ends');
  fill(root, h('div.page-head', h('h2', 'History'), status, h('label', 'Route', find)),
    h('p.note', 'Each router keeps the newest 4096 changes of its table. Choose a time to see the table as it was, and what a request would have met.'),
    h('div.timeline', bars, slider, ends), h('p', h('strong', chosen)), rows);
  let from = 0;
  let to = Date.now();
  let timer;

  const moment = () => from + ((to - from) * Number(slider.value)) / 1000;
  const show = async () => {
    const at = moment();
    const isNow = Number(slider.value) === 1000;
    chosen.textContent = isNow ? 'Now' : `At ${timeOfDay(at)}`;
    chosen.title = exact(at);
    slider.setAttribute('aria-valuetext', chosen.textContent);
    try {
      const answer = await get(query('/api/v1/table', { at: isNow ? '' : exact(at), q: find.value.trim() }));
      fill(status, `${plural(answer.total, 'route')} on router ${answer.router}`);
      fill(rows, met(answer.meets, find.value.trim()), h('table.steps',
        h('thead', h('tr', h('th', { scope: 'col' }, 'Route'), h('th', { scope: 'col' }, 'Endpoints'))),
        h('tbody', answer.rows.map((row) => h('tr', h('td', h('a', { href: `#/route/${encodeURIComponent(row.uri)}` }, row.uri)),
          h('td.mono', row.endpoints.map((e) => `${e.address} ${e.instance_guid ?? e.component ?? ''}`).join(', ') || 'no endpoint'))))));
    } catch (error) {
      fill(status, error.message);
      fill(rows);
    }
  };
  const later = () => {
    clearTimeout(timer);
    timer = setTimeout(show, 120);
  };
  slider.addEventListener('input', later);
  find.addEventListener('input', later);
  try {
    const past = await get('/api/v1/history');
    to = Date.now();
    const times = past.rows.map((change) => Date.parse(change.time));
    from = Math.max(Date.parse(past.since) || to - 60_000, Math.min(...times, to - 60_000));
    fill(bars, density(times, from, to).map((share) => {
      const bar = h('i');
      bar.style.height = `${Math.round(share * 100)}%`;
      return bar;
    }));
    fill(ends, h('span', timeOfDay(from)), h('span', plural(past.total, 'change')), h('span', 'now'));
  } catch (error) {
    fill(ends, error.message);
  }
  await show();
}

function met(meets, request) {
  if (!meets) return null;
  const texts = { 'no-route': 'no route: 404', 'no-endpoints': `the route ${meets.route} without endpoints: 503`, endpoints: `the route ${meets.route} with ${plural(meets.endpoints?.length ?? 0, 'endpoint')}` };
  return h('p', `A request to ${request} meets ${texts[meets.meets] ?? meets.meets}.`);
}
