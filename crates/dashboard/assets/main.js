// Starts the page: shows what the server rendered with it, follows the stream, and changes pages by the address.

import { follow, get } from './api.js';
import { Changes } from './changes.js';
import { byId, fill, h } from './dom.js';
import { historyPage } from './history.js';
import { learned } from './learn.js';
import { LineMap } from './map.js';
import { originOf, showChange, showRoute } from './route.js';
import { search } from './search.js';
import { STATIONS } from './stations.js';
import { isTable, tablePage } from './tables.js';

const first = JSON.parse(document.body.dataset.first || '{}');
const focus = byId('focus');
const go = (to) => { location.hash = to; };

const map = new LineMap(byId('map'), (id) => {
  const station = STATIONS.find((s) => s.id === id);
  if (!byId('learn').checked) fill(byId('lesson'), learned(id, station.name));
  byId('lesson').querySelector(`[data-of="${id}"]`)?.scrollIntoView({ block: 'nearest' });
});
const changes = new Changes(byId('changes-list'), (change) => chosen(change, true));
const origins = new Map();
let stored = null;
let idle = 0;
let route = null;
let refresh = null;
let shown = null;

function close() {
  fill(focus);
  shown = null;
  route = null;
  map.overview();
  for (const row of document.querySelectorAll('.changes .chosen')) row.classList.remove('chosen');
  if (location.hash.startsWith('#/route/')) go('#/');
}

/** Shows a change in the map and below it. */
function chosen(change, replay) {
  if (!change) return;
  const isNew = shown !== change.id;
  shown = change.id;
  change.origin = origins.get(change.id);
  map.change(change, { replay });
  showChange(focus, change, { onReplay: () => map.change(changes.known.get(change.id), { replay: true }), onClose: close, go });
  if (isNew) ask(change);
  if (replay && byId('map').getBoundingClientRect().top < 0) byId('map').scrollIntoView({ block: 'start' });
}

/** Asks the public API who began a change and when it was stored, and shows that. */
async function ask(change) {
  if (origins.has(change.id)) return;
  const origin = await originOf(change);
  origins.set(change.id, origin);
  if (origin && shown === change.id) chosen(changes.known.get(change.id), false);
}

/** Counts what the Cloud Controller has, by the public API. */
async function count() {
  const total = async (path) => (await get(`${path}?per_page=1`)).pagination.total_results;
  const [routes, apps] = await Promise.all([total('/v3/routes'), total('/v3/apps')]);
  stored = [{ name: routes === 1 ? 'route' : 'routes', value: routes }, { name: apps === 1 ? 'app' : 'apps', value: apps }];
}

function health(picture) {
  byId('health').dataset.state = picture.health.state;
  const sentence = byId('sentence');
  const sources = picture.health.sources;
  const blind = sources.length ? ` Not readable: ${sources.map((s) => `${s.name} (${s.problem})`).join(', ')}.` : '';
  const text = picture.health.sentence + blind;
  if (sentence.textContent !== text) sentence.textContent = text;
  const isEmpty = picture.health.routes === 0;
  map.values({ ...picture.stations, ...(stored ? { 'cloud-controller': stored } : {}), ...(isEmpty ? { api: [{ command: 'cf push' }] } : { api: [] }) });
  map.stale(sources.length > 0);
}

function connection(isLive) {
  const note = byId('connection');
  note.hidden = isLive;
  note.textContent = isLive ? '' : `Not connected since ${new Date().toLocaleTimeString()}: what you see may be old. Connecting again …`;
  map.stale(!isLive);
}

/** Takes a change of the stream: the list shows it, and the map too unless a person looks at something else. */
function received(change) {
  const isNew = !changes.known.has(change.id);
  changes.put(change);
  const isPicture = !byId('picture').hidden;
  if (!isPicture) return;
  if (shown === change.id) return chosen(change, false);
  // A route in the focus is asked again when it changes.
  if (route && change.uris.includes(route.uri)) {
    clearTimeout(route.timer);
    route.timer = setTimeout(() => route?.again?.(), 700);
  }
  if (route || shown !== null) return map.run(change, isNew);
  map.change(change);
  clearTimeout(idle);
  idle = setTimeout(() => { if (!route && shown === null) map.overview(); }, 20_000);
}

async function navigate() {
  const [, page = '', key = ''] = location.hash.replace(/^#/, '').split('/');
  const text = decodeURIComponent(key);
  const isPicture = page === '' || page === 'route';
  byId('picture').hidden = !isPicture;
  byId('changes').hidden = !isPicture;
  byId('page').hidden = isPicture;
  refresh = null;
  const current = isPicture ? 'picture' : page;
  for (const link of document.querySelectorAll('nav a')) {
    if (link.dataset.page === current) link.setAttribute('aria-current', 'page');
    else link.removeAttribute('aria-current');
  }
  document.title = `Cupola: ${page === 'route' ? text : current === 'picture' ? 'how a route gets there' : current}`;
  if (page === 'route' && text) {
    shown = null;
    const own = { uri: text };
    route = own;
    const { again } = await showRoute(focus, text, map, { onClose: close, go });
    own.again = again;
  } else if (isPicture) {
    if (route) close();
    map.draw();
  } else if (isTable(page)) {
    refresh = tablePage(byId('page'), page, text, go);
  } else if (page === 'history') {
    historyPage(byId('page'));
  } else {
    fill(byId('page'), h('p', 'There is no such page.'));
  }
}

function start() {
  if (first.me?.role !== 'operator') for (const link of document.querySelectorAll('[data-operator]')) link.hidden = true;
  if (first.picture) health(first.picture);
  for (const change of first.changes?.rows ?? []) changes.put(change);
  search(go);
  byId('learn').addEventListener('change', (event) => {
    fill(byId('lesson'), event.target.checked ? STATIONS.map((station) => learned(station.id, station.name)) : null);
    map.draw();
  });
  addEventListener('hashchange', navigate);
  navigate();
  let wasLost = false;
  follow({
    change: received,
    picture: health,
    skipped: () => get('/api/v1/changes').then((answer) => answer.rows.forEach((change) => changes.put(change))),
    state: (isLive) => {
      connection(isLive);
      if (isLive && wasLost) get('/api/v1/picture').then(health).catch(() => {});
      wasLost = !isLive;
    },
  }, first.changes?.revision);
  const look = () => count().catch(() => {});
  look();
  setInterval(look, 15_000);
  setInterval(() => { if (!document.hidden) refresh?.(); }, 2000);
  document.documentElement.dataset.ready = 'true';
}

start();
