/** Elements. Text is only ever text: nothing here takes markup, so that a file's name can't be any. */

/**
 * An element of HTML. An attribute that is a function listens (`onclick`); null, undefined and false leave it out.
 * @param {string} name
 * @param {Object<string, any>} [attributes]
 * @param {...(Node|string|number|null|undefined|false|Array)} children
 * @returns {HTMLElement}
 */
export function el(name, attributes = {}, ...children) {
  return filled(document.createElement(name), attributes, children);
}

/**
 * An element of SVG, as `el`.
 * @returns {SVGElement}
 */
export function svg(name, attributes = {}, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", name), attributes, children);
}

function filled(element, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (typeof value === "function") element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...present(children));
  return element;
}

/** Have an element hold these children alone, as `el` takes them. */
export function hold(element, ...children) {
  element.replaceChildren(...present(children));
}

/** The children that are there, as nodes and texts. */
function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false && child !== "");
}

let numIds = 0;

/** An id that no other element has. */
export function newId(prefix) {
  numIds += 1;
  return `${prefix}-${numIds}`;
}
