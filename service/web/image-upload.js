/** Adding images to a collection: many at once, a few a request, each with its own result. */

import { announce } from "./announce.js";
import { el } from "./dom.js";
import { dropArea } from "./drop-area.js";
import { choice, formField, written } from "./form-field.js";
import { counted } from "./format.js";
import { errorNotice } from "./notice.js";
import { pause } from "./refresh.js";
import { table, tableRow } from "./table.js";
import { upload } from "./upload.js";

const FILES_A_REQUEST = 16;
const BYTES_A_REQUEST = 32e6;
const BUSY = [429, 503];
const BUSY_MILLISECONDS = 1000;
const COLUMNS = ["File", "Result", "Why"];

/**
 * @param {Object} collection
 * @param {AbortSignal} signal
 * @param {() => Promise<any>} onAdded
 */
export function addImages(collection, signal, onAdded) {
  const said = el("div", {});
  const label = formField("label", "Label of these images", "", written(el("input", { type: "text", maxlength: 200, placeholder: "none" }), String, String));
  const twins = formField("on_duplicate", "Near-duplicates", "", choice([["keep them", "keep"], ["keep and name them", "report"], ["leave them out", "reject"]]));
  const start = async (files) => {
    const options = { collection: collection.name, label: label.read(), on_duplicate: twins.read() };
    const counts = await addAll(files, options, said, signal);
    if (signal.aborted) return;
    announce(`Done: ${counts}`);
    await onAdded();
  };
  return el(
    "details",
    { class: "panel", open: collection.num_images === 0 },
    el("summary", {}, "Add images"),
    el("form", { class: "filters", onsubmit: (event) => event.preventDefault() }, label.element, twins.element),
    dropArea({ label: "Drop images", hint: "or choose many: JPEG, PNG, WebP", accept: "image/jpeg,image/png,image/webp", isMultiple: true, onFiles: start }),
    said,
  );
}

/** Upload all of them; what became of them, in words. */
async function addAll(files, options, said, signal) {
  const stop = new AbortController();
  const either = AbortSignal.any([signal, stop.signal]);
  const bar = el("progress", { max: files.length, value: 0, "aria-label": "Upload of images" });
  const text = el("span", {});
  const cancel = el("button", { type: "button", class: "quiet", onclick: () => stop.abort() }, "Cancel");
  const results = table("What became of each file", COLUMNS, []);
  said.replaceChildren(el("div", { class: "progress-now" }, bar, el("p", {}, text, " ", cancel)), results);
  const counts = {};
  let numDone = 0;
  for (const chunk of chunks(files)) {
    try {
      const show = (share) => { bar.value = numDone + share * chunk.length; };
      const { items } = await patiently(() => upload("/v1/images", formOf(chunk, options), { signal: either, onProgress: show }), either);
      for (const item of items) counts[item.status] = (counts[item.status] ?? 0) + 1;
      results.querySelector("tbody").append(...items.map(resultRow));
    } catch (error) {
      if (error.name !== "AbortError") said.append(errorNotice(error));
      break;
    }
    numDone += chunk.length;
    bar.value = numDone;
    text.textContent = `${numDone} of ${counted(files.length, "file")}: ${inWords(counts)}`;
  }
  cancel.remove();
  return inWords(counts) || "nothing was added";
}

/** Try again what a service that has much to do refuses, as long as nobody cancels it. */
async function patiently(attempt, signal) {
  for (;;) {
    try {
      return await attempt();
    } catch (error) {
      if (signal.aborted || !BUSY.includes(error.status)) throw error;
      await pause(BUSY_MILLISECONDS, signal);
    }
  }
}

function inWords(counts) {
  return Object.entries(counts).map(([status, number]) => `${number} ${status}`).join(", ");
}

function formOf(files, options) {
  const form = new FormData();
  for (const file of files) form.append("files", file);
  for (const [name, value] of Object.entries(options)) if (value !== undefined) form.append(name, value);
  return form;
}

function resultRow({ filename, status, error, near_duplicate: twin }) {
  const why = error?.detail ?? (twin ? `nearly image ${twin.id.slice(0, 8)} (${twin.score.toFixed(3)})` : "");
  return tableRow(COLUMNS, [filename ?? "", el("span", { class: `pill ${status}` }, status), why]);
}

/** Files in order, a few together: a request is bounded by their number and by their bytes. */
export function* chunks(files) {
  let chunk = [];
  let numBytes = 0;
  for (const file of files) {
    if (chunk.length > 0 && (chunk.length === FILES_A_REQUEST || numBytes + file.size > BYTES_A_REQUEST)) {
      yield chunk;
      [chunk, numBytes] = [[], 0];
    }
    chunk.push(file);
    numBytes += file.size;
  }
  yield chunk;
}
