/** The images that a search found, as cards. */

import { el, newId } from "./dom.js";
import { nameOf, picture } from "./picture.js";
import { link } from "./place.js";

/**
 * @typedef {Object} Feedback
 * @property {string[]} like @property {string[]} unlike The examples that there are.
 * @property {(id: string, side: "like"|"unlike") => void} onExample
 * @property {string} collection
 */

/**
 * @param {Array<Object[]>} groups Near-duplicates together, the best one first.
 * @param {Feedback} feedback
 */
export function resultGrid(groups, feedback) {
  return el("ul", { class: "grid" }, ...groups.flatMap((group) => cardsOf(group, feedback)));
}

/** A group's cards: the first, and the others once they are unfolded. */
function cardsOf([first, ...others], feedback) {
  if (others.length === 0) return [card(first, feedback)];
  const ids = newId("folded");
  const folded = others.map((item) => card(item, feedback));
  const unfold = el(
    "button",
    {
      type: "button",
      class: "fold",
      "aria-expanded": "false",
      id: ids,
      "aria-label": `+${others.length}: near-duplicates of ${nameOf(first)}`,
      onclick: () => {
        const isOpen = unfold.getAttribute("aria-expanded") === "true";
        unfold.setAttribute("aria-expanded", String(!isOpen));
        for (const one of folded) one.hidden = isOpen;
      },
    },
    `+${others.length}`,
  );
  for (const one of folded) {
    one.hidden = true;
    one.classList.add("twin");
  }
  return [card(first, feedback, unfold), ...folded];
}

function card(item, { like, unlike, onExample, collection }, unfold = null) {
  const name = nameOf(item);
  const example = (side, text, sign, chosen) =>
    el("button", { type: "button", class: "sign", "aria-pressed": String(chosen.includes(item.id)), "aria-label": `${text}: ${name}`, title: text, onclick: () => onExample(item.id, side) }, sign);
  return el(
    "li",
    { class: "card" },
    el("a", { class: "frame", href: link("search", { image: item.id, collection }), "aria-label": `Search by ${name}` }, picture(item.id, 320, "")),
    unfold,
    el("p", { class: "caption" }, el("span", { class: "name", title: item.filename ?? "" }, item.label ?? item.filename ?? "")),
    el(
      "div",
      { class: "signs" },
      item.score !== undefined && el("span", { class: "score", title: "cosine similarity" }, item.score.toFixed(3)),
      example("like", "More like this", "+", like),
      example("unlike", "Not like this", "−", unlike),
    ),
  );
}
