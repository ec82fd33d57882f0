/** How well a collection's vectors agree with its labels. */

import { get } from "../api.js";
import { el } from "../dom.js";
import { choice, formField } from "../form-field.js";
import { count, percent } from "../format.js";
import { emptyNotice, errorNotice } from "../notice.js";
import { remember } from "../place.js";
import { facts, table } from "../table.js";

const KS = [1, 5, 10, 20, 50];

/** @param {import("../place.js").Place} place @param {Object} collection */
export async function showPart(place, collection) {
  const content = el("section", { "aria-label": "Quality" });
  const field = formField("k", "Neighbours that are compared", "", choice(KS.map((k) => [String(k), k])));
  const asked = Number(place.query.get("k"));
  field.write(KS.includes(asked) ? asked : 10);
  const load = async () => {
    const quality = await get(`/v1/collections/${collection.id}/quality`, { k: field.read() }, place.signal);
    content.replaceChildren(...contentOf(quality));
  };
  field.element.addEventListener("change", () => {
    remember(place.path, { view: "quality", k: field.read() });
    load().catch((error) => place.signal.aborted || content.replaceChildren(errorNotice(error)));
  });
  place.root.replaceChildren(el("form", { class: "filters", onsubmit: (event) => event.preventDefault() }, field.element), content);
  await load();
}

function contentOf(quality) {
  if (quality.precision_at_k === null) return [emptyNotice("Too few labels", "At least two images of the collection need a label and a vector.")];
  const rows = quality.labels.map((one) => [one.label, count(one.num_sampled), percent(one.precision_at_k)]);
  return [
    facts([
      [`Precision@${quality.k}`, percent(quality.precision_at_k)],
      ["By chance", percent(quality.chance)],
      ["Purity of clusters", percent(quality.purity)],
      ["Labelled images", count(quality.num_labelled)],
      ["Asked with", count(quality.num_sampled)],
    ]),
    el("p", {}, "Of the labelled images nearest to an image, the share that have its label."),
    table("By label", ["Label", "Asked with", `Precision@${quality.k}`], rows),
  ];
}
