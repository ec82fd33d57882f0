/** The images of a collection, and more of them. */

import { get } from "../api.js";
import { el } from "../dom.js";
import { choice, formField } from "../form-field.js";
import { count } from "../format.js";
import { addImages } from "../image-upload.js";
import { emptyNotice, errorNotice } from "../notice.js";
import { nameOf, picture } from "../picture.js";
import { link, remember } from "../place.js";
import { labelFilter } from "../similar.js";
import { paged } from "../table.js";

const PAGE = 48;

/** @param {import("../place.js").Place} place @param {Object} collection */
export async function showPart(place, collection) {
  const { signal } = place;
  const list = el("section", { "aria-label": "Images" });
  let label = place.query.get("label");
  const load = () => showImages(list, collection, label, signal);
  const filter = el("form", { class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() });
  place.root.replaceChildren(addImages(collection, signal, load), filter, list);
  const { items } = await get(`/v1/collections/${collection.id}/labels`, { limit: 1000 }, signal);
  if (items.length > 0) {
    const field = formField("label", "Label", "", choice([["any", null], ...items.map((one) => [`${one.label} (${count(one.num_images)})`, one.label])]));
    field.write(label);
    field.element.addEventListener("change", () => {
      label = field.read();
      remember(place.path, { label });
      load().catch((error) => signal.aborted || list.replaceChildren(errorNotice(error)));
    });
    filter.append(field.element);
  }
  await load();
}

async function showImages(list, collection, label, signal) {
  const grid = el("ul", { class: "grid small" });
  const filter = label ? JSON.stringify(labelFilter(label)) : null;
  const more = await paged(async (cursor) => {
    const page = await get("/v1/images", { collection: collection.id, filter, cursor, limit: PAGE }, signal);
    grid.append(...page.items.map((item) => card(item, collection)));
    return page.next;
  });
  list.replaceChildren(...(grid.hasChildNodes() ? [grid, more] : [emptyNotice("No images here", "Drop some above.")]));
}

function card(item, collection) {
  const name = nameOf(item);
  return el(
    "li",
    { class: "card" },
    el("a", { class: "frame", href: link("search", { image: item.id, collection: collection.name }), "aria-label": `Search by ${name}` }, picture(item.id, 320, "")),
    el("p", { class: "caption" }, el("span", { class: "name", title: `${item.filename ?? ""} ${item.width} × ${item.height}` }, item.label ?? item.filename ?? "")),
  );
}
