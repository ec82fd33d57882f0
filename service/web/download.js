/** Files to keep. A link can't send a key: with one, the bytes are fetched first. */

import { call } from "./api.js";
import { el } from "./dom.js";
import { currentKey } from "./key.js";

/**
 * A link to something of the API that a browser shows or keeps.
 * @param {string} path
 * @param {string} name Of the file, if it is kept.
 * @param {string} text
 */
export function downloadLink(path, name, text) {
  const opens = path.includes("format=html") ? { target: "_blank", rel: "noopener" } : {};
  return el("a", { href: path, ...opens, onclick: (event) => currentKey() !== null && keep(event, path, name) }, text);
}

async function keep(event, path, name) {
  event.preventDefault();
  const url = URL.createObjectURL(await (await call(path)).blob());
  el("a", { href: url, download: name }).click();
  URL.revokeObjectURL(url);
}
