// A table whose rows come in pages from the server. Only the rows that are visible are in the document, however many there are.

import { get, query } from './api.js';
import { fill, h } from './dom.js';

const HEIGHT = 44;
const PAGE = 200;
const MARGIN = 6;

/** Returns the rows that must be in the document. It is pure. */
export function visible(scrolled, height, total) {
  const first = Math.max(Math.floor(scrolled / HEIGHT) - MARGIN, 0);
  const last = Math.min(Math.ceil((scrolled + height) / HEIGHT) + MARGIN, total);
  return { first, last };
}

export class Table {
  /** `columns`: {key, title, width, sorts, show(row), wide}. `onOpen(row)` is called by Enter or a click. */
  constructor(path, columns, { onOpen, label, sort }) {
    this.path = path;
    this.columns = columns;
    this.onOpen = onOpen;
    this.filters = {};
    this.sort = sort ?? { key: columns[0].key, order: 'ascending' };
    this.pages = new Map();
    this.shown = new Map();
    this.total = 0;
    this.chosen = 0;
    this.focusAt = null;
    this.space = h('div', { role: 'rowgroup' });
    this.body = h('div.grid-body', { role: 'presentation' }, this.space);
    this.head = h('div.grid-head', { role: 'row' });
    this.element = h('div.grid', { role: 'grid', 'aria-label': label, 'aria-rowcount': 0 }, h('div', { role: 'rowgroup' }, this.head), this.body);
    this.body.addEventListener('scroll', () => this.draw(), { passive: true });
    this.body.addEventListener('keydown', (event) => this.key(event));
    new ResizeObserver(() => this.draw()).observe(this.body);
    this.drawHead();
  }

  get template() {
    const isNarrow = matchMedia('(max-width: 48rem)').matches;
    return this.columns.filter((c) => !isNarrow || !c.wide).map((c) => `minmax(0, ${c.width ?? '1fr'})`).join(' ');
  }

  drawHead() {
    this.head.style.gridTemplateColumns = this.template;
    fill(this.head, this.columns.map((column) => {
      const sorted = this.sort.key === column.key ? this.sort.order : 'none';
      const kind = `div${column.wide ? '.wide' : ''}${column.number ? '.number' : ''}`;
      return h(kind, { role: 'columnheader', 'aria-sort': column.sorts ? sorted : null },
        column.sorts ? h('button', { onclick: () => this.sortBy(column.key) }, column.title) : h('span.small.soft', column.title));
    }));
  }

  sortBy(key) {
    const isSame = this.sort.key === key;
    this.sort = { key, order: isSame && this.sort.order === 'ascending' ? 'descending' : 'ascending' };
    this.drawHead();
    this.load();
  }

  filter(filters) {
    this.filters = { ...this.filters, ...filters };
    this.body.scrollTop = 0;
    this.load();
  }

  /** Forgets all rows and reads those that are visible. */
  async load() {
    this.pages.clear();
    this.generation = (this.generation ?? 0) + 1;
    await this.page(0);
    for (const { element } of this.shown.values()) element.remove();
    this.shown.clear();
    this.chosen = 0;
    this.draw();
  }

  /** Reads the visible rows again, and keeps the place. */
  async refresh() {
    const { first, last } = visible(this.body.scrollTop, this.body.clientHeight, this.total);
    const wanted = new Set([Math.floor(first / PAGE), Math.floor(Math.max(last - 1, 0) / PAGE)]);
    for (const number of this.pages.keys()) if (!wanted.has(number)) this.pages.delete(number);
    await Promise.all([...wanted].map((number) => this.page(number)));
    this.draw();
  }

  async page(number) {
    const own = this.generation;
    const path = query(this.path, { ...this.filters, sort: this.sort.key, order: this.sort.order, offset: number * PAGE, limit: PAGE });
    try {
      const answer = await get(path);
      if (own !== this.generation) return;
      this.pages.set(number, answer.rows);
      this.total = answer.total;
      this.problem = null;
    } catch (error) {
      this.problem = error.message;
    }
    this.element.setAttribute('aria-rowcount', String(this.total + 1));
    this.onTotal?.(this.total, this.problem);
  }

  row(n) {
    const page = this.pages.get(Math.floor(n / PAGE));
    return page?.[n % PAGE];
  }

  /** Brings the visible rows into the document, and those that changed. The row that has the focus stays. */
  draw() {
    this.space.style.height = `${this.total * HEIGHT}px`;
    const { first, last } = visible(this.body.scrollTop, this.body.clientHeight, this.total);
    for (const [n, shown] of this.shown) {
      const isIn = n >= first && n < last;
      const hasFocus = shown.element.contains(document.activeElement) && this.focusAt === null;
      const row = this.row(n);
      const isOld = row && JSON.stringify(row) !== shown.text;
      if ((isIn || hasFocus) && !isOld && n < this.total) continue;
      if (hasFocus && isIn) this.focusAt = n;
      shown.element.remove();
      this.shown.delete(n);
    }
    for (let n = first; n < last; n += 1) {
      if (this.shown.has(n)) continue;
      const row = this.row(n);
      if (!row) {
        this.want(Math.floor(n / PAGE));
        continue;
      }
      const element = this.rowElement(row, n);
      this.shown.set(n, { element, text: JSON.stringify(row) });
      this.space.append(element);
      if (this.focusAt === n) {
        this.focusAt = null;
        element.focus({ preventScroll: true });
      }
    }
    // One row can always be reached by the Tab key.
    if (!this.shown.has(this.chosen) && this.shown.size && this.focusAt === null) {
      this.chosen = Math.min(...this.shown.keys());
      this.shown.get(this.chosen).element.setAttribute('tabindex', '0');
    }
  }

  async want(number) {
    this.wanted ??= new Set();
    if (this.wanted.has(number)) return;
    this.wanted.add(number);
    await this.page(number);
    this.wanted.delete(number);
    this.draw();
  }

  rowElement(row, n) {
    const element = h('div.grid-row', { role: 'row', tabindex: n === this.chosen ? 0 : -1, 'aria-rowindex': n + 2, 'data-n': n, onclick: (event) => {
      if (!event.target.closest('a, button')) this.open(n);
    } }, this.columns.map((column) => h(`div${column.wide ? '.wide' : ''}${column.number ? '.number' : ''}`, { role: 'gridcell' }, column.show(row))));
    element.style.transform = `translateY(${n * HEIGHT}px)`;
    element.style.gridTemplateColumns = this.template;
    return element;
  }

  open(n) {
    this.choose(n, false);
    const row = this.row(n);
    if (row) this.onOpen?.(row);
  }

  choose(n, focus) {
    this.shown.get(this.chosen)?.element.setAttribute('tabindex', '-1');
    this.chosen = n;
    const top = n * HEIGHT;
    if (top < this.body.scrollTop) this.body.scrollTop = top;
    if (top + HEIGHT > this.body.scrollTop + this.body.clientHeight) this.body.scrollTop = top + HEIGHT - this.body.clientHeight;
    // A row whose page is still to come gets the focus when it is drawn.
    if (focus) this.focusAt = n;
    this.draw();
    const shown = this.shown.get(n);
    shown?.element.setAttribute('tabindex', '0');
    if (focus && shown) {
      this.focusAt = null;
      shown.element.focus({ preventScroll: true });
      this.draw();
    }
  }

  key(event) {
    const page = Math.max(Math.floor(this.body.clientHeight / HEIGHT) - 1, 1);
    const steps = { ArrowDown: 1, ArrowUp: -1, PageDown: page, PageUp: -page, Home: -this.total, End: this.total };
    if (event.key in steps && this.total) {
      event.preventDefault();
      this.choose(Math.min(Math.max(this.chosen + steps[event.key], 0), this.total - 1), true);
    }
    if (event.key === 'Enter' && event.target.classList.contains('grid-row')) this.open(this.chosen);
  }
}
