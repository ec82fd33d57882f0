/** The heading of a view, which names the page too. */

import { el } from "./dom.js";

/**
 * @param {import("./place.js").Place} place
 * @param {string} text
 * @param {...Node} actions Buttons and links beside it.
 */
export function heading(place, text, ...actions) {
  document.title = `${text} · simclr-service`;
  const title = el("h1", { tabindex: "-1" }, text);
  if (place.takesFocus) queueMicrotask(() => title.focus({ preventScroll: true }));
  return el("header", { class: "heading" }, title, el("div", { class: "actions" }, ...actions));
}
