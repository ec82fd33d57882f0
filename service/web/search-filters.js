/** The filters of a search. */

import { get } from "./api.js";
import { el } from "./dom.js";
import { count } from "./format.js";
import { choice, formField, written } from "./form-field.js";

const NUMBERS = ["12", "24", "48", "96"];
const FOLDS = [["from 0.90", "0.9"], ["from 0.95", "0.95"], ["from 0.97", "0.97"], ["from 0.99", "0.99"], ["never", "1"]];

/**
 * @param {{name: string, num_images: number}[]} collections
 * @param {Object} state The values now.
 * @param {(changed: Object) => void} onChange
 */
export function searchFilters(collections, state, onChange) {
  const labels = el("datalist", { id: "labels" });
  const suggest = (collection) => showLabels(labels, collection);
  const fields = [
    selected("collection", "Collection", collections.map(({ name, num_images: number }) => [`${name} (${count(number)})`, name])),
    typed("label", "Label", { type: "text", list: "labels", maxlength: 200, placeholder: "any" }),
    typed("min", "Least score", { type: "number", min: -1, max: 1, step: 0.05, placeholder: "any" }),
    selected("k", "Results", NUMBERS.map((number) => [number, number])),
    selected("fold", "Fold near-duplicates", FOLDS),
  ];
  for (const field of fields) {
    field.write(state[field.path]);
    field.element.addEventListener("change", () => {
      const value = field.read() ?? "";
      if (field.path === "collection") suggest(value);
      onChange({ [field.path]: value });
    });
  }
  suggest(state.collection);
  return el("form", { class: "filters", role: "search", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() }, ...fields.map(({ element }) => element), labels);
}

function selected(path, label, options) {
  return formField(path, label, "", choice(options));
}

function typed(path, label, attributes) {
  return formField(path, label, "", written(el("input", attributes), String, String));
}

async function showLabels(list, collection) {
  const path = `/v1/collections/${encodeURIComponent(collection)}/labels`;
  const { items } = await get(path, { limit: 200 }).catch(() => ({ items: [] })); // any label can be typed
  list.replaceChildren(...items.map(({ label, num_images: number }) => el("option", { value: label }, count(number))));
}
