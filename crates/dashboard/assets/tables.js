// The pages of routes, instances, cells and routers.

import { get } from './api.js';
import { ofCell, ofInstance, ofRoute, ofRouter } from './commands.js';
import { fill, h } from './dom.js';
import { ago, exact, plural, short, timeOfDay } from './format.js';
import { mark } from './stations.js';
import { Table } from './table.js';

const value = (text, title) => h('span.value', { title: title ?? text }, text ?? '');
const number = (n) => (n === null || n === undefined ? h('span.soft', 'not known') : n.toLocaleString('en'));
const state = (name, kind) => h(`span.state${kind ? `.${kind}` : ''}`, name);
const link = (to, text) => h('a', { href: to }, text);

const INSTANCE_KIND = { RUNNING: '', CLAIMED: 'waits', UNCLAIMED: 'waits', CRASHED: 'fault' };

const PAGES = {
  routes: {
    title: 'Routes',
    path: '/api/v1/routes',
    sort: { key: 'state', order: 'ascending' },
    states: ['fault', 'live', 'misrouted', 'stale', 'missing', 'failing', 'crashing', 'starting', 'changing', 'stopped', 'external'],
    columns: [
      { key: 'uri', title: 'Route', width: '2.2fr', sorts: true, show: (r) => link(`#/route/${encodeURIComponent(r.uri)}`, r.uri) },
      { key: 'state', title: 'State', width: '1fr', sorts: true, show: (r) => state(r.state, mark(r.state)) },
      { key: 'app', title: 'App', width: '1.2fr', sorts: true, wide: true, show: (r) => (r.apps[0] ? link(`#/instances/${encodeURIComponent(r.apps[0].guid)}`, r.apps.map((a) => a.name).join(', ')) : h('span.soft', r.component)) },
      { key: 'running', title: 'Running', width: '.7fr', sorts: true, wide: true, show: (r) => (r.apps.length ? `${r.running} of ${r.wanted}` : '') },
      { key: 'endpoints', title: 'Endpoints', width: '1.6fr', wide: true, show: (r) => value(r.endpoints.map((e) => e.address).join(', ')) },
      { key: 'routers', title: 'Routers', width: '.7fr', sorts: true, wide: true, show: (r) => `${r.routers} of ${r.routers_known}` },
      { key: 'generation', title: 'Change', width: '.6fr', sorts: true, wide: true, show: (r) => (r.generation ? value(String(r.generation)) : '') },
    ],
    about: (r) => r.reason,
    commands: ofRoute,
    key: (r) => r.uri,
  },
  instances: {
    title: 'Instances',
    path: '/api/v1/instances',
    sort: { key: 'app', order: 'ascending' },
    states: ['fault', 'RUNNING', 'CLAIMED', 'UNCLAIMED', 'CRASHED'],
    columns: [
      { key: 'app', title: 'App', width: '1.3fr', sorts: true, show: (r) => `${r.app || short(r.process_guid)}/${r.index}` },
      { key: 'state', title: 'State', width: '1fr', sorts: true, show: (r) => state(r.state + (r.routable ? '' : ', not ready'), INSTANCE_KIND[r.state] ?? 'none') },
      { key: 'cell', title: 'Cell', width: '1fr', sorts: true, show: (r) => (r.cell ? link(`#/cells/${encodeURIComponent(r.cell)}`, r.cell) : '') },
      { key: 'translation', title: 'DNAT', width: '2.4fr', wide: true, show: (r) => value(r.translation) },
      { key: 'instance', title: 'Instance guid', width: '1.6fr', wide: true, show: (r) => value(short(r.instance_guid, 22), r.instance_guid) },
      { key: 'since', title: 'Since', width: '.9fr', sorts: true, wide: true, show: (r) => h('time', { datetime: exact(r.since), title: exact(r.since) }, ago((Date.now() - r.since) / 1000)) },
      { key: 'crashes', title: 'Crashes', width: '.6fr', sorts: true, wide: true, number: true, show: (r) => number(r.crashes) },
    ],
    about: (r) => r.reason,
    commands: ofInstance,
    key: (r) => r.instance_guid,
  },
  cells: {
    title: 'Cells',
    path: '/api/v1/cells',
    sort: { key: 'id', order: 'ascending' },
    columns: [
      { key: 'id', title: 'Cell', width: '1.4fr', sorts: true, show: (r) => link(`#/instances/${encodeURIComponent(r.id)}`, r.id) },
      { key: 'zone', title: 'Zone', width: '.6fr', sorts: true, show: (r) => r.zone },
      { key: 'instances', title: 'Instances', width: '.7fr', sorts: true, number: true, show: (r) => number(r.instances) },
      { key: 'containers', title: 'Containers at most', width: '.9fr', wide: true, number: true, show: (r) => number(r.containers) },
      { key: 'memory', title: 'Memory', width: '.8fr', sorts: true, wide: true, number: true, show: (r) => `${number(r.memory_mb)} MB` },
      { key: 'rep', title: 'Rep', width: '2fr', wide: true, show: (r) => value(r.rep) },
    ],
    commands: ofCell,
    key: (r) => r.id,
  },
  routers: {
    title: 'Routers',
    path: '/api/v1/routers',
    sort: { key: 'name', order: 'ascending' },
    columns: [
      { key: 'name', title: 'Router', width: '1.4fr', sorts: true, show: (r) => value(r.name) },
      { key: 'problem', title: 'State', width: '1.4fr', show: (r) => (r.problem ? state('not readable', 'fault') : r.confirms ? state('confirms changes') : state('confirms nothing', 'none')) },
      { key: 'routes', title: 'Routes', width: '.7fr', sorts: true, number: true, show: (r) => number(r.routes) },
      { key: 'endpoints', title: 'Endpoints', width: '.7fr', sorts: true, wide: true, number: true, show: (r) => number(r.endpoints) },
      { key: 'last_change', title: 'Last change', width: '1fr', wide: true, show: (r) => (r.last_change ? h('time', { title: exact(r.last_change) }, timeOfDay(r.last_change)) : '') },
      { key: 'id', title: 'Id', width: '1.6fr', wide: true, show: (r) => value(short(r.id, 24), r.id) },
    ],
    about: (r) => r.problem,
    commands: ofRouter,
    key: (r) => r.id,
  },
};

export const isTable = (name) => name in PAGES;

/** Returns what can be copied, each with a button. */
export function commands(list) {
  return h('div.commands', list.map(([tool, command]) => {
    const button = h('button', { onclick: async () => {
      await navigator.clipboard.writeText(command).catch(() => {});
      button.textContent = 'Copied';
      setTimeout(() => { button.textContent = 'Copy'; }, 1500);
    } }, 'Copy');
    return h('div', h('span.small.soft', `copy as ${tool}`), h('code', { tabindex: 0 }, command), button);
  }));
}

/** Shows a page, filtered by a text. It returns a function that reads the visible rows again. */
export function tablePage(root, name, text, go) {
  const page = PAGES[name];
  const details = h('div.details', { 'aria-live': 'polite' });
  const count = h('p.small.soft', { role: 'status' });
  const table = new Table(page.path, page.columns, {
    label: page.title,
    sort: page.sort,
    onOpen: (row) => {
      fill(details, h('h3', page.key(row) || page.title), page.about?.(row) ? h('p', page.about(row)) : null, commands(page.commands(row)),
      name === 'routes' ? h('div.actions', h('button.primary', { onclick: () => go(`#/route/${encodeURIComponent(row.uri)}`) }, 'Show it in the picture')) : null);
      details.scrollIntoView({ block: 'nearest' });
    },
  });
  table.onTotal = (total, problem) => fill(count, problem ?? plural(total, 'row'));
  const find = h('input', { type: 'search', value: text ?? '', oninput: () => table.filter({ q: find.value.trim() }) });
  const choose = page.states && h('select', { onchange: () => table.filter({ state: choose.value }) },
    h('option', { value: '' }, 'every state'), page.states.map((s) => h('option', { value: s }, s === 'fault' ? 'something is wrong' : s)));
  fill(root,
    h('div.page-head', h('h2', page.title), count,
      h('label', 'Filter', find),
      choose && h('label', 'State', choose)),
    table.element, details);
  table.filters = { q: text ?? '' };
  table.load();
  return () => table.refresh();
}

/** Returns the route of a URI as the list has it. */
export async function routeOf(uri) {
  const found = await get(`/api/v1/routes?q=${encodeURIComponent(uri)}&limit=200`);
  return found.rows.find((route) => route.uri === uri.toLowerCase());
}
