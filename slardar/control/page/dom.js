// Makes and updates elements.  Texts go in as texts: nothing here reads markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element.  `props`: `class`, `on` (listeners by event), `data` (data-* by name), attributes;
 * `true` sets an attribute without a value, `false`, `null` and `undefined` set none. */
export function h(tag, props = {}, ...children) {
  return fill(document.createElement(tag), props, children);
}

/** The same for SVG. */
export function svg(tag, props = {}, ...children) {
  return fill(document.createElementNS(SVG, tag), props, children);
}

function fill(node, props, children) {
  for (const [name, value] of Object.entries(props ?? {})) {
    if (name === "on") {
      for (const [event, listener] of Object.entries(value)) node.addEventListener(event, listener);
    } else if (name === "data") {
      for (const [key, text] of Object.entries(value)) node.dataset[key] = text;
    } else if (value !== false && value !== null && value !== undefined) {
      node.setAttribute(name, value === true ? "" : String(value));
    }
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}

/** Set a text, if it is another one: what has not changed is not laid out again. */
export function text(node, value) {
  const wanted = String(value);
  if (node.textContent !== wanted) node.textContent = wanted;
}

/** Set an attribute, if it is another one. */
export function attr(node, name, value) {
  if (value === null || value === false) node.removeAttribute(name);
  else if (node.getAttribute(name) !== String(value)) node.setAttribute(name, String(value));
}

/** Bring the children of `parent` in line with `items`.  A child that stays keeps its place in the
 * document as far as it can, and so its focus; `make(item)` makes one, `update(child, item)` fills
 * it. */
export function keyed(parent, items, key, make, update) {
  const known = (parent.known ??= new Map());
  const left = new Map(known);
  let next = parent.firstChild;
  for (const item of items) {
    const name = key(item);
    let child = known.get(name);
    if (child === undefined) {
      child = make(item);
      known.set(name, child);
    }
    left.delete(name);
    update?.(child, item);
    if (child === next) next = next.nextSibling;
    else parent.insertBefore(child, next);
  }
  for (const [name, child] of left) {
    child.remove();
    known.delete(name);
  }
}

let ids = 0;

/** An id that no element has yet. */
export const newId = () => `made-${ids++}`;

/** The element with this id. */
export const byId = (id) => document.getElementById(id);
