/** What there is to say instead of, or beside, the content: errors, empty lists, waiting. */

import { Problem } from "./api.js";
import { el } from "./dom.js";

/** @param {string} title @param {...(Node|string)} content What to do about it. */
export function emptyNotice(title, ...content) {
  return el("div", { class: "notice" }, el("h2", {}, title), el("p", {}, ...content));
}

/** @param {Error} error Errors of our own are told too, in the words they have. Fields say what the message doesn't. */
export function errorNotice(error) {
  const code = error instanceof Problem ? error.code : error.name !== "Error" && error.name;
  const others = (error.errors ?? []).filter(({ message }) => !`: ${error.message}`.endsWith(`: ${message}`));
  const fields = others.map(({ field, message }) => el("li", {}, el("code", {}, field), ` ${message}`));
  return el(
    "div",
    { class: "notice error", role: "alert" },
    el("p", {}, error.message, code && [" ", el("code", {}, code)]),
    fields.length > 0 && el("ul", {}, ...fields),
  );
}

/** Shown only if it takes a while: the style sheet delays it. */
export function waiting(what) {
  return el("p", { class: "waiting" }, `Loading ${what}…`);
}

/**
 * Do something for a button: it can't be pressed meanwhile, and an error is shown in `where`.
 * @param {HTMLButtonElement} button
 * @param {HTMLElement} where
 * @param {() => Promise<any>} action
 */
export async function during(button, where, action) {
  button.disabled = true;
  where.replaceChildren();
  try {
    await action();
  } catch (error) {
    if (error.name !== "AbortError") where.replaceChildren(errorNotice(error));
  } finally {
    button.disabled = false;
  }
}
