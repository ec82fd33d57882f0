/** A collection: its images, its map, its duplicates, and how well labels and vectors agree. */

import { get } from "../api.js";
import { el } from "../dom.js";
import { counted } from "../format.js";
import { heading } from "../heading.js";
import { errorNotice, waiting } from "../notice.js";
import { link } from "../place.js";

const PARTS = {
  images: ["Images", () => import("./collection-images.js")],
  map: ["Map", () => import("./collection-map.js")],
  duplicates: ["Duplicates", () => import("./collection-duplicates.js")],
  quality: ["Quality", () => import("./collection-quality.js")],
};

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const { id, query, signal } = place;
  const name = query.get("view") in PARTS ? query.get("view") : "images";
  const collection = await get(`/v1/collections/${encodeURIComponent(id)}`, {}, signal);
  const path = `collections/${encodeURIComponent(id)}`;
  const part = el("div", {}, waiting("the collection"));
  const tabs = Object.entries(PARTS).map(([key, [title]]) => el("a", { href: link(path, { view: key }), "aria-current": key === name ? "page" : null }, title));
  place.root.replaceChildren(
    heading(place, collection.name, el("a", { class: "button", href: link("search", { collection: collection.name }) }, "Search in it")),
    el("p", { class: "state" }, counted(collection.num_images, "image"), " ", el("code", {}, collection.id)),
    el("nav", { class: "tabs", "aria-label": "Parts of the collection" }, ...tabs),
    part,
  );
  try {
    const { showPart } = await PARTS[name][1]();
    await showPart({ ...place, root: part }, collection);
  } catch (error) {
    if (!signal.aborted) part.replaceChildren(errorNotice(error));
  }
}
