// One route or one change in the focus below the map: its steps, who did it, the receipt, `why`, and following a request.

import { get, post, query } from './api.js';
import { ofRoute } from './commands.js';
import { fill, h } from './dom.js';
import { ago, exact, ms, timeOfDay } from './format.js';
import { STATIONS, title } from './stations.js';
import { commands, routeOf } from './tables.js';

const NAMES = new Map(STATIONS.map((station) => [station.id, station.name]));
const MARKS = { right: '✓', wrong: '✗', waits: '…', unread: '?' };

/** Returns the steps of a change as a table. */
function steps(change) {
  const offset = change.origin?.offset ?? 0;
  const rows = change.steps.map((step) => h(`tr${step.fault ? '.fault' : ''}`,
    h('td.number', { title: exact(step.at) }, `+${ms(step.after_ms + offset)}`),
    h('td', NAMES.get(step.station) ?? step.station),
    h('td', step.text),
    h('td.mono.wide', step.values.map((v, n) => [n ? ', ' : '', `${v.name} ${v.value}`]))));
  return h('table.steps',
    h('thead', h('tr', h('th.number', { scope: 'col' }, 'After'), h('th', { scope: 'col' }, 'Station'), h('th', { scope: 'col' }, 'What happened'), h('th.wide', { scope: 'col' }, 'Values'))),
    h('tbody', rows));
}

/** Shows a change. */
export function showChange(root, change, { onReplay, onClose, go }) {
  const { name, kind } = title(change);
  fill(root, h(`section${change.steps.some((s) => s.fault) ? '.fault' : ''}`, { 'aria-label': 'The chosen change' },
    h('header', h('h2', name), h('span.soft', kind), change.result ? h(`span.result.${change.result.state}`, change.result.text) : null),
    change.origin?.who ? h('p.small.soft', change.origin.who) : null,
    h('div.actions',
      h('button', { onclick: onReplay }, 'Replay slowly'),
      change.uris.slice(0, 3).map((uri) => h('button', { onclick: () => go(`#/route/${encodeURIComponent(uri)}`) }, `Show ${uri}`)),
      h('button.quiet', { onclick: onClose }, 'Close')),
    steps(change),
    change.more ? h('p.small.soft', `${change.more} more steps are not kept.`) : null));
}

/** Returns who began a change, when the Cloud Controller stored it, and how many milliseconds before the first step that was. */
export async function originOf(change) {
  const [by, stored] = await Promise.all([who(change).catch(() => ''), storedAt(change).catch(() => null)]);
  const offset = stored ? change.began - Date.parse(stored) : 0;
  const isOfThis = stored && offset >= 0 && offset < 10_000;
  return by || isOfThis ? { who: by, stored: isOfThis ? stored : null, offset: isOfThis ? preciseOffset(change.began, stored) : 0 } : null;
}

/** Returns the milliseconds from a time of RFC 3339, which may have nanoseconds, to another time. */
export function preciseOffset(began, stored) {
  const [, fraction = '0'] = /\.(\d+)/.exec(stored) ?? [];
  const whole = Date.parse(stored.replace(/\.\d+/, ''));
  return began - whole - Number(`0.${fraction}`) * 1000;
}

/** Returns the time at which the Cloud Controller stored a change of a route. */
async function storedAt(change) {
  const uri = change.uris[0];
  if (!uri || !['map', 'unmap'].includes(change.kind)) return null;
  const answer = await receipt(uri);
  return answer?.hops.find((hop) => hop.hop === 'stored')?.at ?? null;
}

/** Returns who caused a change, as the Cloud Controller's audit events have it. */
async function who(change) {
  if (!change.app) return '';
  const found = await get(query('/v3/audit_events', { target_guids: change.app, order_by: '-created_at', per_page: 20 }));
  // The Cloud Controller's times have whole seconds.
  const near = found.resources.filter((event) => Math.abs(Date.parse(event.created_at) - change.began) < 3000);
  const event = near.at(-1) ?? null;
  return event ? `${event.actor.name}: ${event.type}` : '';
}

/** Shows a route: what is known, and what can be done. */
export async function showRoute(root, uri, map, { onClose, go }) {
  const head = h('header', h('h2', uri));
  const about = h('p');
  const status = h('p.small.soft', { role: 'status' });
  const result = h('div');
  const request = h('div');
  const below = h('div');
  let explanation = null;
  // What a followed request shows stays until a person asks why.
  let isFollowed = false;

  const explain = async (isOpen) => {
    fill(status, 'Asking every component …');
    try {
      explanation = await get(query('/v3/why', { url: uri }));
      if (isOpen) isFollowed = false;
      if (!isFollowed) map.explanation(explanation, () => fill(result, whyTable(explanation)));
      fill(status, explanation.is_right ? 'Every hop is right.' : '');
      if (isOpen || !explanation.is_right) fill(result, whyTable(explanation));
    } catch (error) {
      fill(status, `The route cannot be explained: ${error.message}`);
    }
  };
  const follow = async () => {
    fill(request, h('p.soft', { role: 'status' }, 'The request travels …'));
    try {
      const answer = await post('/api/v1/taps', { url: uri });
      const best = answer.taps.find((tap) => tap.endpoint) ?? answer.taps[0];
      isFollowed = true;
      map.tap(best);
      fill(request, tapTable(answer));
    } catch (error) {
      fill(request, h('p.fault', error.message));
    }
  };
  fill(root, h('section', { 'aria-label': `The route ${uri}` }, head, about, status,
    h('div.actions',
      h('button.primary', { onclick: follow }, 'Follow a request'),
      h('button.why', { onclick: () => explain(true) }, 'Why'),
      h('button.quiet', { onclick: onClose }, 'Close')),
    request, result, below));
  const [route] = await Promise.all([routeOf(uri).catch(() => null), explain(false)]);
  if (route) {
    fill(head, h('h2', uri), h('span.soft', route.state));
    fill(about, route.reason || '');
    fill(below, h('h3', 'The same in a terminal'), commands(ofRoute(route)));
  }
  propagation(uri).then((text) => text && fill(status, status.textContent, ' ', text)).catch(() => {});
  return { again: () => explain(false) };
}

/** Returns how far the last change of a route has come, by the Cloud Controller. */
async function receipt(uri) {
  const [host, ...path] = uri.split('/');
  const [name] = host.split('.');
  const found = await get(query('/v3/routes', { hosts: name, per_page: 50 }));
  const wanted = found.resources.find((route) => route.url === [host, ...path].join('/'));
  return wanted ? get(`/v3/routes/${wanted.guid}/propagation`) : null;
}

async function propagation(uri) {
  const answer = await receipt(uri);
  if (!answer) return '';
  const hops = answer.hops.map((hop) => `${hop.hop} ${hop.after_ms === null ? '' : `+${ms(hop.after_ms)}`}`).join(', ');
  return `Its last change is ${answer.summary}${hops ? ` (${hops})` : ''}.`;
}

/** Returns an explanation as a table: the same as `cupola why` prints. */
function whyTable(explanation) {
  const guilty = explanation.guilty;
  const rows = explanation.hops.map((hop, n) => h(`tr${n === guilty && hop.verdict === 'wrong' ? '.fault' : ''}`,
    h('td', h(`span.verdict.${hop.verdict}`, { title: hop.verdict }, MARKS[hop.verdict])),
    h('td', `${hop.component} ${hop.part}`),
    h('td.wide', hop.subject),
    h('td.mono', hop.found, hop.age === undefined ? '' : ` (${ago(hop.age)})`)));
  const advice = guilty === null ? null : explanation.hops[guilty];
  return h('div',
    advice?.reason ? h('div.fault', h('p', h('strong', advice.reason)), h('p', advice.remedy)) : h('p', 'The route is right.'),
    h('table.steps', h('thead', h('tr', h('th', { scope: 'col' }, 'Is'), h('th', { scope: 'col' }, 'Hop'), h('th.wide', { scope: 'col' }, 'Of'), h('th', { scope: 'col' }, 'What it really has'))), h('tbody', rows)),
    explanation.failures.length ? [h('h3', 'The last failing requests'), h('table.steps', h('tbody', explanation.failures.map((failure) => h('tr',
      h('td.number', ago(failure.age)), h('td', `${failure.status} ${failure.error}`), h('td.mono.wide', failure.path), h('td', `${failure.component}: ${failure.reason}`)))))] : null);
}

/** Returns the times of a followed request in the order in which they passed. */
export function phases(tap) {
  const trace = tap.trace;
  if (!trace) return [['router', tap.router_ms], ['connection and app', tap.backend_ms]].filter(([, time]) => time !== null && time !== undefined);
  const last = trace.attempts.at(-1) ?? {};
  const lost = trace.attempts.slice(0, -1).reduce((sum, a) => sum + a.pick_ms + (a.connect_ms ?? 0) + (a.tls_ms ?? 0) + a.answer_ms, 0) + (last.lost_ms ?? 0);
  return [
    ['router', trace.router_ms], ['wait for an instance', trace.held_ms], ['failed attempts', lost], ['pick', last.pick_ms], ['connect', last.connect_ms],
    ['TLS', last.tls_ms], ['sidecar and app', last.answer_ms], ['body', trace.body_ms],
  ].filter(([, time]) => time);
}

/** Returns a followed request as a table. */
function tapTable(answer) {
  return h('section.request', { 'aria-label': 'The followed request' },
    h('h3', `GET ${answer.url}`),
    h('table.steps',
      h('thead', h('tr', ['Router', 'Answer', 'Total', 'Time per hop', 'Endpoint', 'Instance'].map((text, n) => h(`th${n === 2 ? '.number' : ''}`, { scope: 'col' }, text)))),
      h('tbody', answer.taps.flatMap((tap) => [
        h(`tr${tap.problem || tap.router_error ? '.fault' : ''}`,
          h('td.mono', tap.router), h('td', tap.status ?? '', ' ', tap.router_error || tap.problem || ''), h('td.number', ms(tap.trace?.total_ms ?? tap.total_ms)),
          h('td', phases(tap).map(([name, time], n) => [n ? ', ' : '', `${name} `, h('b', ms(time))])), h('td.mono', tap.endpoint ?? ''),
          h('td.mono', tap.instance_guid ? `${tap.instance_index}: ${tap.instance_guid}` : '')),
        ...tap.attempts.map((attempt) => h('tr.fault', h('td'), h('td', { colspan: 5 }, attempt))),
      ]))),
    h('p.small.soft', `Request ${answer.taps.map((tap) => tap.request_id).filter(Boolean).join(', ')} at ${timeOfDay(Date.now())}`));
}
