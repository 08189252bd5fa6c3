// Draws the line map: the lines under the stations, the trains on them, and what each station shows.

import { add, breakable, fill, h, svg } from './dom.js';
import { ago, exact, ms } from './format.js';
import { STATIONS, carried, explained, position, tapped, way } from './stations.js';

/** The time in which a train runs from one station to the next. The real times are milliseconds, and stand at the stations. */
const RIDE = 280;
const isCalm = () => matchMedia('(prefers-reduced-motion: reduce)').matches;

export class LineMap {
  constructor(root, onStation) {
    this.root = root;
    this.items = new Map();
    this.trains = new Map();
    this.lines = svg('svg', { 'aria-hidden': 'true' });
    root.prepend(this.lines);
    for (const station of STATIONS) {
      const item = root.querySelector(`[data-station="${station.id}"]`);
      const hub = station.one && station.two ? '.hub' : '';
      const one = h(`span.stop.one${station.one ? hub : '.none'}`);
      const two = h(`span.stop.two${station.two ? hub : '.none'}`);
      const said = h('div.said');
      add(item, [one, two, said]);
      item.querySelector('.name').addEventListener('click', () => onStation(station.id));
      this.items.set(station.id, { item, one, two, said });
    }
    new ResizeObserver(() => this.draw()).observe(root);
    this.draw();
  }

  /** Returns the middle of a stop, relative to the map. */
  at(id, line) {
    const { item } = this.items.get(id);
    const stop = item.querySelector(`.stop.${line}`).getBoundingClientRect();
    const own = this.root.getBoundingClientRect();
    return { x: stop.left + stop.width / 2 - own.left, y: stop.top + stop.height / 2 - own.top };
  }

  draw() {
    const path = (points) => points.map((p, n) => `${n ? 'L' : 'M'}${p.x.toFixed(1)} ${p.y.toFixed(1)}`).join('');
    const one = STATIONS.filter((s) => s.one).map((s) => this.at(s.id, 'one'));
    const two = STATIONS.filter((s) => s.two).reverse().map((s) => this.at(s.id, 'two'));
    // What lies behind a closed station is old, so the line is grey from there on.
    const end = this.closed ? position(this.closed) : one.length - 1;
    const hubs = STATIONS.filter((s) => s.one && s.two).flatMap((s) => {
      const d = path([this.at(s.id, 'one'), this.at(s.id, 'two')]);
      const closed = s.id === this.closed ? ' closed' : '';
      return [svg('path', { class: `hub${closed}`, d }), svg('path', { class: 'hub inner', d })];
    });
    this.lines.replaceChildren(
      svg('path', { class: 'two', d: path(two) }),
      svg('path', { class: 'one behind', d: path(one.slice(end)) }),
      svg('path', { class: 'one', d: path(one.slice(0, end + 1)) }),
      ...hubs,
    );
    for (const train of this.trains.values()) this.place(train, 0);
  }

  /** Shows the values of the whole foundation at the stations. */
  values(stations) {
    this.known = stations ?? this.known ?? {};
    if (this.focused) return;
    const wasClosed = this.closed;
    this.clear();
    if (wasClosed) this.close(null);
    for (const [id, values] of Object.entries(this.known)) {
      const station = this.items.get(id);
      if (!station) continue;
      const rows = values.filter((v) => v.value !== undefined || v.command || v.age !== null).map((v) => h('span.values', v.command ? h('code', v.command) : v.value !== undefined
        ? [h('b', v.value.toLocaleString('en')), ` ${v.name}`]
        : [`${v.name} `, h('b', ago(v.age))]));
      fill(station.said, rows);
    }
  }

  /** Marks the station that is closed, if there is one. */
  close(id) {
    this.closed = id;
    // The sentence of a closed station needs room.
    const columns = STATIONS.map((station) => (station.id === id ? 'minmax(0, 2fr)' : 'minmax(0, 1fr)'));
    this.root.style.setProperty('--columns', id ? columns.join(' ') : '');
    this.draw();
  }

  clear() {
    this.closed = null;
    for (const { item, one, two, said } of this.items.values()) {
      item.classList.remove('closed', 'behind');
      one.classList.remove('passed');
      two.classList.remove('passed');
      fill(said);
    }
  }

  /** Shows the stations of a change, and runs its train to the last one it has reached. */
  change(change, { replay = false } = {}) {
    this.focused = true;
    this.clear();
    const offset = change.origin?.offset ?? 0;
    if (change.origin) this.origin(change.origin);
    let closed = null;
    for (const [id, station] of carried(change)) {
      const { item, one, said } = this.items.get(id) ?? {};
      if (!item) continue;
      one.classList.add('passed');
      item.classList.toggle('closed', Boolean(station.fault));
      if (station.fault) closed = id;
      const step = station.fault ? station.last : station.first;
      fill(said,
        h('span.when', { title: exact(step.at) }, `+${ms(step.after_ms + offset)}`),
        h(`span.${station.fault ? 'reason' : 'carried'}`, breakable(step.text)));
    }
    this.close(closed);
    this.run(change, replay);
  }

  /** Shows who began a change, and when the Cloud Controller stored it. */
  origin(origin) {
    const api = this.items.get('api');
    const stored = this.items.get('cloud-controller');
    if (origin.who) {
      api.one.classList.add('passed');
      fill(api.said, h('span.carried', breakable(origin.who)));
    }
    if (origin.stored) {
      stored.one.classList.add('passed');
      fill(stored.said, h('span.when', { title: origin.stored }, '0 ms'), h('span.carried', 'The change is stored'));
    }
  }

  /** Runs a train along the stations that a change has reached. */
  run(change, replay) {
    const stops = way(change);
    if (!stops.length) return;
    let train = this.trains.get(change.id);
    if (!train) {
      for (const [id, other] of this.trains) if (this.trains.size >= 4) this.remove(id, other);
      const element = h('div.train', { 'aria-hidden': 'true' }, h('span', change.uris[0] ?? change.app_name ?? ''));
      this.root.append(element);
      train = { element, stops: [], reached: -1, line: 'one' };
      this.trains.set(change.id, train);
    }
    clearTimeout(train.leaves);
    train.element.classList.toggle('fault', change.steps.some((step) => step.fault));
    train.stops = stops;
    if (replay || train.reached >= stops.length) train.reached = -1;
    this.ride(train);
    train.leaves = setTimeout(() => this.remove(change.id, train), 12_000);
  }

  remove(id, train) {
    train.element.remove();
    this.trains.delete(id);
    clearTimeout(train.timer);
  }

  ride(train) {
    clearTimeout(train.timer);
    if (train.reached + 1 >= train.stops.length) return;
    train.reached += 1;
    this.place(train, train.reached === 0 || isCalm() ? 0 : RIDE);
    train.timer = setTimeout(() => this.ride(train), isCalm() ? 0 : RIDE + 60);
  }

  place(train, duration) {
    const { x, y } = this.at(train.stops[Math.max(train.reached, 0)], train.line);
    const to = `translate(${x}px, ${y}px)`;
    const from = train.element.style.transform;
    train.element.style.transform = to;
    if (duration && from) train.element.animate([{ transform: from }, { transform: to }], { duration, easing: 'ease-in-out' });
  }

  /** Shows what every component says of one route; the guilty station is closed. */
  explanation(explanation, onWhy) {
    this.focused = true;
    this.clear();
    let closed = null;
    for (const [id, station] of explained(explanation)) {
      const { item, one, said } = this.items.get(id) ?? {};
      if (!item) continue;
      item.classList.toggle('closed', station.closed);
      item.classList.toggle('behind', station.behind);
      one.classList.toggle('passed', !station.closed && !station.behind);
      if (station.closed) {
        closed = id;
        fill(said, h('span.reason', breakable(station.guilty.reason)), ' ', h('button.why', { onclick: onWhy }, 'Why'));
        continue;
      }
      const shown = station.hops.filter((hop) => hop.found).slice(0, 3);
      fill(said, shown.map((hop) => h('span.values', h('span.carried', breakable(hop.found)), hop.age === undefined ? null : ` ${ago(hop.age)}`)));
    }
    this.close(closed);
  }

  /** Shows a followed request on the second line. */
  tap(tap) {
    const stations = tapped(tap);
    const stops = [...STATIONS].reverse().map((s) => s.id).filter((id) => stations.has(id));
    for (const [id, station] of stations) {
      const { item, two, said } = this.items.get(id);
      two.classList.add('passed');
      item.classList.toggle('closed', Boolean(station.fault));
      fill(said,
        station.when === null || station.when === undefined ? null : h('span.when.two', ms(station.when)),
        h(`span.${station.fault ? 'reason' : 'carried'}`, breakable(station.text ?? '')));
    }
    const element = h('div.train.two', { 'aria-hidden': 'true' });
    this.root.append(element);
    const train = { element, stops, reached: -1, line: 'two' };
    const id = `tap ${Date.now()}`;
    this.trains.set(id, train);
    this.ride(train);
    train.leaves = setTimeout(() => this.remove(id, train), 12_000);
  }

  /** Shows the whole foundation again. */
  overview() {
    this.focused = false;
    this.values();
  }

  stale(isStale) {
    this.root.classList.toggle('stale', isStale);
  }
}
