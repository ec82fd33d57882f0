/** Groups of near-duplicates in a collection. */

import { get } from "../api.js";
import { el } from "../dom.js";
import { formField, written } from "../form-field.js";
import { counted } from "../format.js";
import { emptyNotice, errorNotice, waiting } from "../notice.js";
import { nameOf, picture } from "../picture.js";
import { link, remember } from "../place.js";
import { paged } from "../table.js";

const PAGE = 20;

/** @param {import("../place.js").Place} place @param {Object} collection */
export async function showPart(place, collection) {
  const list = el("section", { "aria-label": "Groups", "aria-busy": "false" });
  const control = el("input", { type: "number", min: 0.5, max: 1, step: 0.01 });
  const field = formField("threshold", "Least cosine similarity", "Of images of a group, directly or through others.", written(control, Number, String));
  field.write(Number(place.query.get("threshold") ?? 0.95));
  const load = async () => {
    const threshold = field.read();
    list.replaceChildren(waiting("groups"));
    try {
      await showGroups(list, collection, threshold, place.signal);
    } catch (error) {
      if (!place.signal.aborted) list.replaceChildren(errorNotice(error));
    }
  };
  control.addEventListener("change", () => {
    remember(place.path, { view: "duplicates", threshold: field.read() });
    load();
  });
  place.root.replaceChildren(el("form", { class: "filters", onsubmit: (event) => event.preventDefault() }, field.element), list);
  await load();
}

async function showGroups(list, collection, threshold, signal) {
  const groups = el("ol", { class: "duplicate-groups" });
  const more = await paged(async (cursor) => {
    let page;
    do { // a page may be empty and not the last
      page = await get(`/v1/collections/${collection.id}/duplicates`, { threshold, cursor, limit: PAGE }, signal);
      groups.append(...page.items.map(({ images }) => groupOf(images, collection)));
      cursor = page.next;
    } while (page.items.length === 0 && page.next);
    return page.next;
  });
  list.replaceChildren(...(groups.hasChildNodes() ? [groups, more] : [emptyNotice("No near-duplicates", "No two images are that similar. Lower the number to see which come closest.")]));
}

function groupOf(images, collection) {
  const cards = images.map((image) =>
    el("li", { class: "card" }, el("a", { class: "frame", href: link("search", { image: image.id, collection: collection.name }), "aria-label": `Search by ${nameOf(image)}` }, picture(image.id, 160, "")), el("p", { class: "caption" }, el("span", { class: "name", title: image.filename ?? "" }, image.label ?? image.filename ?? ""))),
  );
  return el("li", {}, el("h2", {}, counted(images.length, "image")), el("ul", { class: "grid small" }, ...cards));
}
