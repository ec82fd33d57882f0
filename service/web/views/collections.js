/** Collections: named sets of images to search in. */

import { announce } from "../announce.js";
import { get, send } from "../api.js";
import { confirmed } from "../confirm-dialog.js";
import { el } from "../dom.js";
import { formField, showErrors, written } from "../form-field.js";
import { count, counted, when } from "../format.js";
import { heading } from "../heading.js";
import { during, emptyNotice } from "../notice.js";
import { go, link } from "../place.js";
import { paged, table, tableRow } from "../table.js";

const COLUMNS = ["Name", "Images", "Created", ""];

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const { signal } = place;
  const said = el("div", {});
  const list = el("div", {});
  place.root.replaceChildren(heading(place, "Collections"), newCollection(said, signal), said, list);
  const load = async () => {
    const shown = table("Collections", COLUMNS, []);
    const body = shown.querySelector("tbody");
    const more = await paged(async (cursor) => {
      const page = await get("/v1/collections", { cursor }, signal);
      body.append(...page.items.map((one) => rowOf(one, said, load, signal)));
      return page.next;
    });
    list.replaceChildren(...(body.hasChildNodes() ? [shown, more] : [emptyNotice("No collections", "Name one above, then add images to it.")]));
  };
  await load();
}

function newCollection(said, signal) {
  const input = el("input", { type: "text", maxlength: 64, placeholder: "photos", autocomplete: "off" });
  const name = formField("name", "New collection", "Letters, digits, dots, dashes.", written(input, String, String));
  const button = el("button", { type: "submit", class: "primary" }, "Make it");
  const make = async () => {
    try {
      await send("POST", "/v1/collections", { name: name.read() ?? "" }, { signal });
      go(`collections/${encodeURIComponent(name.read())}`);
    } catch (error) {
      throw Object.assign(error, { errors: showErrors([name], error.errors ?? []) });
    }
  };
  return el("form", { class: "filters", novalidate: true, onsubmit: (event) => { event.preventDefault(); during(button, said, make); } }, name.element, button);
}

function rowOf(collection, said, reload, signal) {
  const path = `collections/${encodeURIComponent(collection.name)}`;
  const remove = el("button", { type: "button", class: "quiet", "aria-label": `Delete ${collection.name}`, onclick: () => during(remove, said, async () => {
    const isSure = await confirmed(`Delete “${collection.name}”?`, `Its ${counted(collection.num_images, "image")}, but for those in other collections, are deleted for good.`, "Delete the collection");
    if (!isSure) return;
    await send("DELETE", `/v1/${path}`, undefined, { signal });
    announce("Deleted");
    await reload();
  }) }, "Delete");
  return tableRow(COLUMNS, [el("a", { href: link(path) }, collection.name), count(collection.num_images), when(collection.created_at), remove]);
}
