// Makes elements. Texts become text nodes, so nothing that a component shows can become markup.

/** Returns an element: h('a.link', {href: '#/'}, 'text', element, …). Keys that begin with `on` are listeners. */
export function h(kind, attributes, ...children) {
  const [tag, ...classes] = kind.split('.');
  const element = document.createElement(tag || 'div');
  if (classes.length) element.className = classes.join(' ');
  if (attributes && (typeof attributes !== 'object' || attributes instanceof Node || Array.isArray(attributes))) {
    children.unshift(attributes);
    attributes = null;
  }
  for (const [name, value] of Object.entries(attributes ?? {})) {
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? '' : String(value));
  }
  add(element, children);
  return element;
}

export function add(element, children) {
  for (const child of children.flat(3)) {
    if (child === null || child === undefined || child === false) continue;
    element.append(child instanceof Node ? child : String(child));
  }
}

/** Returns a text that may be broken after the marks within names, addresses and guids. */
export function breakable(text) {
  return String(text).split(/(?<=[.:/_-])(?=\w)/).flatMap((part, n) => (n ? [document.createElement('wbr'), part] : [part]));
}

/** Replaces what an element contains. */
export function fill(element, ...children) {
  element.replaceChildren();
  add(element, children);
  return element;
}

export function svg(tag, attributes, ...children) {
  const element = document.createElementNS('http://www.w3.org/2000/svg', tag);
  for (const [name, value] of Object.entries(attributes ?? {})) element.setAttribute(name, value);
  for (const child of children) element.append(child);
  return element;
}

export const byId = (id) => document.getElementById(id);
