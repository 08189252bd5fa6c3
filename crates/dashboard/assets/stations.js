// The stations, and what is shown at each. Everything here is pure: values in, values out.

/** The stations of both lines in the order of the first one. `two`: the second line stops there. */
export const STATIONS = [
  { id: 'api', name: 'cf / API', one: true },
  { id: 'cloud-controller', name: 'Cloud Controller', one: true },
  { id: 'bbs', name: 'BBS', one: true },
  { id: 'auctioneer', name: 'auctioneer', one: true },
  { id: 'cell', name: 'cell', one: true },
  { id: 'container', name: 'container', one: true, two: true },
  { id: 'envoy', name: 'Envoy', one: true, two: true },
  { id: 'dnat', name: 'DNAT', one: true, two: true },
  { id: 'route-emitter', name: 'route-emitter', one: true },
  { id: 'nats', name: 'NATS', one: true },
  { id: 'router', name: 'router', one: true, two: true },
  { id: 'client', name: 'client', two: true },
];

const POSITION = new Map(STATIONS.map((station, at) => [station.id, at]));
const COMPONENT = { rep: 'cell', garden: 'container', app: 'container', iptables: 'dnat', 'route-service': 'router' };

/** Returns the station of a component as `why` names it. */
export function stationOf(component) {
  const id = COMPONENT[component] ?? component;
  return POSITION.has(id) ? id : null;
}

export const position = (id) => POSITION.get(id) ?? -1;

/** Returns what each station carries of a change: the first step there, and the last one. */
export function carried(change) {
  const at = new Map();
  for (const step of change.steps) {
    if (!step.station) continue;
    const known = at.get(step.station);
    if (known) known.last = step;
    else at.set(step.station, { first: step, last: step });
    if (step.fault) at.get(step.station).fault = true;
  }
  return at;
}

/** Returns the stations that a change reaches, in the order of their times. */
export function way(change) {
  const seen = new Set();
  const stops = change.steps.map((step) => step.station);
  return stops.filter((id) => id && POSITION.has(id) && !seen.has(id) && seen.add(id));
}

/** Returns the state of each station by an explanation of `why`: the guilty one is closed, and those behind it show what may be old. */
export function explained(explanation) {
  const stations = new Map();
  for (const hop of explanation.hops) {
    const id = stationOf(hop.component);
    if (!id) continue;
    const known = stations.get(id) ?? { hops: [], closed: false, behind: false };
    known.hops.push(hop);
    stations.set(id, known);
  }
  const guilty = explanation.guilty === null ? null : explanation.hops[explanation.guilty];
  const closed = guilty && guilty.verdict === 'wrong' ? stationOf(guilty.component) : null;
  if (closed) {
    stations.get(closed).closed = true;
    stations.get(closed).guilty = guilty;
    for (const [id, station] of stations) station.behind = position(id) > position(closed);
  }
  return stations;
}

/** Returns the parts of a change's bar: for each station the share of the time since the one before. */
export function bar(change) {
  const stops = way(change).map((id) => change.steps.find((step) => step.station === id));
  const total = Math.max(...stops.map((step) => step.after_ms), 0);
  if (!stops.length || total <= 0) return [];
  const parts = [];
  let last = 0;
  for (const step of stops) {
    const share = Math.max(step.after_ms - last, 0) / total;
    if (share > 0) parts.push({ station: step.station, share, ms: step.after_ms - last });
    last = Math.max(last, step.after_ms);
  }
  return parts;
}

const KINDS = {
  start: 'started', stop: 'stopped', map: 'mapped', unmap: 'unmapped', scale: 'scaled', crash: 'crashed',
  instance: 'instance changed', table: 'table changed',
};

/** Returns a change's name and kind for people. */
export function title(change) {
  const uris = change.uris;
  const more = uris.length > 1 ? ` and ${uris.length - 1} more` : '';
  const isOfApp = ['start', 'stop', 'scale', 'crash', 'instance'].includes(change.kind) && change.app_name;
  const name = isOfApp ? change.app_name : (uris[0] ? uris[0] + more : change.app_name || 'a change');
  return { name, kind: KINDS[change.kind] ?? change.kind };
}

/** Returns how a state of a route is marked. */
export function mark(state) {
  if (['misrouted', 'stale', 'missing', 'failing', 'crashing'].includes(state)) return 'fault';
  if (['starting', 'changing', 'unread'].includes(state)) return 'waits';
  if (['stopped', 'isolated', 'external'].includes(state)) return 'none';
  return '';
}

/** Returns what each station of the second line shows of a followed request. */
export function tapped(tap) {
  const stations = new Map();
  if (!tap) return stations;
  const last = tap.trace?.attempts.at(-1) ?? {};
  stations.set('client', { when: tap.trace?.total_ms ?? tap.total_ms, text: tap.status ? `${tap.status}` : tap.problem });
  const failed = tap.router_error || tap.problem;
  stations.set('router', { when: tap.router_ms, text: failed || 'picks an endpoint', fault: Boolean(failed) });
  if (tap.endpoint) stations.set('dnat', { when: last.connect_ms, text: `${last.is_reused ? 'open connection to ' : ''}${tap.endpoint}` });
  if (tap.instance_guid) stations.set('envoy', { when: last.tls_ms, text: `certificate ${tap.instance_guid}` });
  if (tap.endpoint) stations.set('container', { when: last.answer_ms ?? tap.backend_ms, text: tap.instance_index ? `instance ${tap.instance_index}` : '' });
  return stations;
}
