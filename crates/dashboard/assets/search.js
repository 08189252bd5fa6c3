// The search in the head: a combobox over routes, apps, instances and cells.

import { get, query } from './api.js';
import { byId, fill, h } from './dom.js';

export function search(go) {
  const input = byId('find');
  const list = byId('found');
  let hits = [];
  let at = -1;
  let asked = 0;

  const close = () => {
    list.hidden = true;
    input.setAttribute('aria-expanded', 'false');
    input.removeAttribute('aria-activedescendant');
  };
  const mark = () => {
    [...list.children].forEach((item, n) => item.setAttribute('aria-selected', String(n === at)));
    if (at >= 0) input.setAttribute('aria-activedescendant', `hit-${at}`);
    list.children[at]?.scrollIntoView({ block: 'nearest' });
  };
  const choose = (n) => {
    const hit = hits[n];
    if (!hit) return;
    close();
    input.value = '';
    const pages = { route: 'route', app: 'instances', instance: 'instances', cell: 'cells' };
    go(`#/${pages[hit.kind]}/${encodeURIComponent(hit.key)}`);
  };
  input.addEventListener('input', async () => {
    const text = input.value.trim();
    const own = ++asked;
    if (!text) return close();
    const answer = await get(query('/api/v1/search', { q: text })).catch(() => ({ hits: [] }));
    if (own !== asked) return;
    hits = answer.hits;
    at = hits.length ? 0 : -1;
    fill(list, hits.length
      ? hits.map((hit, n) => h('li', { role: 'option', id: `hit-${n}`, 'aria-selected': 'false', onmousedown: (e) => { e.preventDefault(); choose(n); } },
        h('span.kind', hit.kind), h('span', hit.name), h('span.detail', hit.detail)))
      : h('li', { role: 'option', 'aria-selected': 'false', 'aria-disabled': 'true' }, h('span.kind', 'nothing'), h('span', `Nothing has ${text}.`)));
    list.hidden = false;
    input.setAttribute('aria-expanded', 'true');
    mark();
  });
  input.addEventListener('keydown', (event) => {
    if (event.key === 'Escape') return close();
    if (list.hidden) return;
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && hits.length) {
      at = (at + step + hits.length) % hits.length;
      mark();
      event.preventDefault();
    }
    if (event.key === 'Enter') choose(at);
  });
  input.addEventListener('blur', close);
  document.addEventListener('keydown', (event) => {
    const isTyping = /^(INPUT|SELECT|TEXTAREA)$/.test(document.activeElement?.tagName ?? '');
    if (event.key === '/' && !isTyping) {
      event.preventDefault();
      input.focus();
    }
  });
}
