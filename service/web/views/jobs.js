/** All jobs, newest first. */

import { get } from "../api.js";
import { el } from "../dom.js";
import { liveJobs } from "../events.js";
import { choice, formField } from "../form-field.js";
import { shortId, when, words } from "../format.js";
import { heading } from "../heading.js";
import { ENDED, pill, progressBar, timeOf } from "../job-status.js";
import { emptyNotice, errorNotice } from "../notice.js";
import { link, remember } from "../place.js";
import { paged, table, tableRow } from "../table.js";

const PAGE = 25;
const MAX_LIVE = 1000; // as many as the service tells of at once
const KINDS = ["pretrain", "finetune", "linear_probe", "knn_probe", "layer_sweep", "transform_probe", "export", "ablation", "index", "map", "ingest"];
const STATUSES = ["queued", "running", "cancelling", ...ENDED];
const COLUMNS = ["Job", "Status", "Progress", "Time", "Created"];

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const { query, signal } = place;
  const state = { kind: query.get("kind"), status: query.get("status"), parent_id: query.get("parent_id") };
  const list = el("div", {});
  let shown = new AbortController();
  const renew = async () => {
    shown.abort();
    shown = new AbortController();
    await showJobs(list, state, AbortSignal.any([shown.signal, signal]));
  };
  const filter = (name, label, options) => {
    const field = formField(name, label, "", choice([["all", null], ...options.map((one) => [words(one), one])]));
    field.write(state[name]);
    field.element.addEventListener("change", () => {
      state[name] = field.read();
      remember("jobs", state);
      renew().catch((error) => error.name === "AbortError" || list.replaceChildren(errorNotice(error)));
    });
    return field.element;
  };
  place.root.replaceChildren(
    heading(place, "Jobs", el("a", { class: "button primary", href: link("jobs/new") }, "Start a job")),
    el("form", { class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() }, filter("kind", "Kind", KINDS), filter("status", "Status", STATUSES)),
    list,
  );
  await renew();
}

async function showJobs(list, state, signal) {
  const rows = new JobRows();
  let following = new AbortController();
  const more = await paged(async (cursor) => {
    const page = await get("/v1/jobs", { ...state, cursor, limit: PAGE }, signal);
    page.items.forEach((job) => rows.put(job));
    following.abort();
    following = new AbortController();
    follow(rows, state, AbortSignal.any([following.signal, signal])).catch((error) => list.prepend(errorNotice(error)));
    return page.next;
  });
  list.replaceChildren(rows.element, more);
}

/** Show what becomes of the jobs that are shown, and those that are new. */
async function follow(rows, state, signal) {
  const limit = Math.min(MAX_LIVE, Math.max(PAGE, rows.size));
  for await (const job of liveJobs({ ...state, limit }, signal)) rows.put(job);
}

/** The table of jobs, or a word that there are none. */
class JobRows {
  constructor() {
    this.rows = new Map();
    this.element = el("div", {}, noJobs());
    this.table = table("Jobs", COLUMNS, []);
  }

  get size() {
    return this.rows.size;
  }

  /** Add a job, or show what has changed of it: the rest of its row stays, and keeps the focus. */
  put(job) {
    const fresh = rowOf(job);
    const row = this.rows.get(job.id);
    if (row) {
      const cells = [...fresh.cells];
      [...row.cells].forEach((cell, i) => cell.isEqualNode(cells[i]) || cell.replaceWith(cells[i]));
      return;
    }
    if (this.size === 0) this.element.replaceChildren(this.table);
    const body = this.table.querySelector("tbody");
    fresh.dataset.job = job.id;
    body.insertBefore(fresh, [...body.rows].find((other) => other.dataset.job < job.id) ?? null); // ids grow with time
    this.rows.set(job.id, fresh);
  }
}

function noJobs() {
  return emptyNotice("No jobs", "A job trains a model, measures one, or has it embed images. ", el("a", { href: link("jobs/new") }, "Start one"), ".");
}

function rowOf(job) {
  const name = el("a", { href: link(`jobs/${job.id}`) }, words(job.kind), " ", shortId(job.id));
  return tableRow(COLUMNS, [name, pill(job.status), progressBar(job), timeOf(job), when(job.created_at)]);
}
