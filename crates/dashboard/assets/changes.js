// The list of the last changes, newest first. The page keeps at most a hundred of them.

import { fill, h } from './dom.js';
import { exact, ms, timeOfDay } from './format.js';
import { bar, title } from './stations.js';

const MOST = 100;

export class Changes {
  constructor(root, onChoose) {
    this.root = root;
    this.onChoose = onChoose;
    this.known = new Map();
    this.list = h('ol.changes');
    this.empty = h('div.empty', h('p', 'Nothing has changed yet. Push an app, and its route travels along the line:'), h('code', 'cf push'));
    fill(root, this.empty);
  }

  get newest() {
    return this.known.get(Math.max(...this.known.keys()));
  }

  /** Adds a change, or its new state. */
  put(change) {
    const old = this.list.querySelector(`[data-id="${change.id}"]`);
    const row = this.row(change);
    if (!this.known.size) fill(this.root, this.list);
    this.known.set(change.id, change);
    if (old) {
      // The focus stays where it is.
      const hadFocus = old.contains(document.activeElement);
      row.classList.toggle('chosen', old.classList.contains('chosen'));
      old.replaceWith(row);
      if (hadFocus) row.querySelector('.open').focus();
      return;
    }
    const later = [...this.list.children].find((other) => Number(other.dataset.id) < change.id);
    this.list.insertBefore(row, later ?? null);
    while (this.list.children.length > MOST) {
      this.known.delete(Number(this.list.lastElementChild.dataset.id));
      this.list.lastElementChild.remove();
    }
  }

  row(change) {
    const { name, kind } = title(change);
    const parts = bar(change);
    const isFault = change.steps.some((step) => step.fault);
    const text = parts.map((part) => `${part.station} ${ms(part.ms)}`).join(', ');
    const shown = h(`div.bar${isFault ? '.fault' : ''}`, { role: 'img', 'aria-label': text ? `milliseconds: ${text}` : 'no times', title: text });
    for (const part of parts) {
      const piece = h('i');
      piece.style.flex = String(part.share);
      shown.append(piece);
    }
    return h('li', { 'data-id': change.id },
      h('time.small.soft.value', { datetime: exact(change.began), title: exact(change.began) }, timeOfDay(change.began)),
      h('div', h('button.open', { onclick: () => this.choose(change.id) }, name), ' ', h('span.what', kind)),
      h('span.small.soft', change.who ?? (change.kind === 'start' || change.app_name === name ? change.uris.join(', ') : change.app_name)),
      shown,
      h(`span.small${change.result ? '.result.' + change.result.state : '.soft'}`, change.result?.text ?? (isFault ? change.steps.find((s) => s.fault).text : 'no receipt')));
  }

  choose(id) {
    for (const row of this.list.children) row.classList.toggle('chosen', Number(row.dataset.id) === id);
    this.onChoose(this.known.get(id));
  }
}
