/** Texts of the service, in which `backticks` are around what is code. */

import { el } from "./dom.js";

/** @param {string} [text] @returns {(Node|string)[]} */
export function prose(text = "") {
  return text.split(/`([^`]+)`/).map((part, i) => (i % 2 ? el("code", {}, part) : part));
}
