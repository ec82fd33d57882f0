/** Data sets: what there is, and a new one. */

import { announce } from "../announce.js";
import { get } from "../api.js";
import { el } from "../dom.js";
import { dropArea } from "../drop-area.js";
import { choice, formField, showErrors, written } from "../form-field.js";
import { bytes, count, when } from "../format.js";
import { heading } from "../heading.js";
import { pill } from "../job-status.js";
import { emptyNotice, errorNotice } from "../notice.js";
import { go, link } from "../place.js";
import { keepLooking } from "../refresh.js";
import { paged, table, tableRow } from "../table.js";
import { upload } from "../upload.js";

const LOOK_MILLISECONDS = 2000;
const ARCHIVES = ".zip,.tar,.gz,.tgz,.zst";
const COLUMNS = ["Name", "Status", "Images", "Classes", "Left out", "Created"];

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const list = el("div", {});
  place.root.replaceChildren(heading(place, "Data sets"), newDataset(place.signal), list);
  await showList(list, place.signal);
}

async function showList(list, signal) {
  const shown = table("Data sets", COLUMNS, []);
  let isUnfinished = false;
  const more = await paged(async (cursor) => {
    const page = await get("/v1/datasets", { cursor }, signal);
    shown.querySelector("tbody").append(...page.items.map(rowOf));
    isUnfinished ||= page.items.some(({ status }) => status === "validating");
    return page.next;
  });
  const isEmpty = shown.querySelector("tbody").childElementCount === 0;
  list.replaceChildren(...(isEmpty ? [emptyNotice("No data sets", "Upload an archive of images above: folders are classes.")] : [shown, more]));
  if (isUnfinished) {
    keepLooking(LOOK_MILLISECONDS, signal, async () => {
      if (shown.isConnected) await showList(list, signal);
      return false; // the new list looks for itself
    }, (error) => list.prepend(errorNotice(error)));
  }
}

function rowOf(dataset) {
  const left = [dataset.num_duplicates && `${count(dataset.num_duplicates)} duplicates`, dataset.num_rejected && `${count(dataset.num_rejected)} rejected`];
  return tableRow(COLUMNS, [
    el("a", { href: link(`datasets/${dataset.id}`) }, dataset.name),
    pill(dataset.status),
    dataset.num_images === null ? "–" : count(dataset.num_images),
    dataset.classes === null ? "–" : count(dataset.classes.length),
    left.filter(Boolean).join(", ") || "–",
    when(dataset.created_at),
  ]);
}

/** The form of a new data set: the archive's choice is its submission. */
function newDataset(signal) {
  const said = el("div", {});
  const name = formField("name", "Name", "Default: the archive's.", written(el("input", { type: "text", maxlength: 200 }), String, String));
  const invalid = formField("on_invalid", "Files that are no readable image", "", choice([["fail the data set", "reject"], ["are left out and listed", "skip"]]));
  const fields = [name, invalid];
  const start = async ([file]) => {
    const form = new FormData();
    form.append("file", file);
    form.append("name", name.read() ?? file.name.slice(0, 200));
    form.append("on_invalid", invalid.read());
    try {
      const made = await withProgress(said, file, form, signal);
      announce("Uploaded. It is being validated.");
      go(`datasets/${made.id}`);
    } catch (error) {
      if (signal.aborted) return;
      if (error.name === "AbortError") said.replaceChildren(el("p", {}, "The upload was cancelled; nothing of it is kept."));
      else said.replaceChildren(errorNotice(Object.assign(error, { errors: showErrors(fields, error.errors ?? []) })));
    }
  };
  return el(
    "section",
    { class: "panel", "aria-label": "New data set" },
    el("form", { class: "filters", onsubmit: (event) => event.preventDefault() }, ...fields.map(({ element }) => element)),
    dropArea({ label: "Drop an archive", hint: "or choose one: zip, tar, tar.gz, tar.zst. Folders are classes; train/ and test/ may be on top.", accept: ARCHIVES, onFiles: start }),
    said,
  );
}

/** Upload with a bar, the bytes, and a way out. */
async function withProgress(where, file, form, signal) {
  const stop = new AbortController();
  const bar = el("progress", { max: 1, value: 0, "aria-label": `Upload of ${file.name}` });
  const text = el("span", {});
  where.replaceChildren(el("div", { class: "progress-now" }, bar, el("p", {}, text, " ", el("button", { type: "button", class: "quiet", onclick: () => stop.abort() }, "Cancel the upload"))));
  return upload("/v1/datasets", form, {
    signal: AbortSignal.any([signal, stop.signal]),
    onProgress: (share) => {
      bar.value = share;
      text.textContent = share < 1 ? `${bytes(share * file.size)} of ${bytes(file.size)}` : "Stored; waiting for the answer…";
    },
  });
}
