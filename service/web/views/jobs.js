/** All jobs, newest first. */

import { get } from "../api.js";
import { el } from "../dom.js";
import { choice, formField } from "../form-field.js";
import { shortId, when, words } from "../format.js";
import { heading } from "../heading.js";
import { ENDED, pill, progressBar, timeOf } from "../job-status.js";
import { emptyNotice, errorNotice } from "../notice.js";
import { link, remember } from "../place.js";
import { keepLooking } from "../refresh.js";
import { paged, table, tableRow } from "../table.js";

// A stream for each running job would use up the six connections that a browser has for a host.
const LOOK_MILLISECONDS = 2000;
const PAGE = 25;
const KINDS = ["pretrain", "finetune", "linear_probe", "knn_probe", "layer_sweep", "transform_probe", "export", "ablation", "index", "ingest"];
const STATUSES = ["queued", "running", "cancelling", ...ENDED];
const COLUMNS = ["Job", "Status", "Progress", "Time", "Created"];

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const { query, signal } = place;
  const state = { kind: query.get("kind"), status: query.get("status"), parent_id: query.get("parent_id") };
  const list = el("div", {});
  const filter = (name, label, options) => {
    const field = formField(name, label, "", choice([["all", null], ...options.map((one) => [words(one), one])]));
    field.write(state[name]);
    field.element.addEventListener("change", () => {
      state[name] = field.read();
      remember("jobs", state);
      showJobs(list, state, signal).catch((error) => signal.aborted || list.replaceChildren(errorNotice(error)));
    });
    return field.element;
  };
  place.root.replaceChildren(
    heading(place, "Jobs", el("a", { class: "button primary", href: link("jobs/new") }, "Start a job")),
    el("form", { class: "filters", "aria-label": "Filters", onsubmit: (event) => event.preventDefault() }, filter("kind", "Kind", KINDS), filter("status", "Status", STATUSES)),
    list,
  );
  await showJobs(list, state, signal);
}

async function showJobs(list, state, signal) {
  const rows = new Map();
  const shown = table("Jobs", COLUMNS, []);
  const body = shown.querySelector("tbody");
  const put = (job) => {
    const row = rowOf(job);
    if (rows.has(job.id)) rows.get(job.id).row.replaceWith(row);
    else body.append(row);
    rows.set(job.id, { job, row });
  };
  const more = await paged(async (cursor) => {
    const page = await get("/v1/jobs", { ...state, cursor, limit: PAGE }, signal);
    page.items.forEach(put);
    return page.next;
  });
  const content = rows.size > 0 ? shown : noJobs();
  list.replaceChildren(content, more);
  keepLooking(LOOK_MILLISECONDS, signal, async () => {
    if (!content.isConnected) return false;
    await renew(rows, state, put, () => showJobs(list, state, signal), signal);
    return true;
  }, (error) => list.prepend(errorNotice(error)));
}

function noJobs() {
  return emptyNotice("No jobs", "A job trains a model, measures one, or has it embed images. ", el("a", { href: link("jobs/new") }, "Start one"), ".");
}

/** Look at the newest jobs, and at older ones that still run; one that is new makes the list anew. */
async function renew(rows, state, put, restart, signal) {
  const { items } = await get("/v1/jobs", { ...state, limit: PAGE }, signal);
  if (items.some(({ id }) => !rows.has(id))) {
    await restart();
    return;
  }
  const newest = new Set(items.map(({ id }) => id));
  const older = [...rows.values()].filter(({ job }) => !newest.has(job.id) && !ENDED.includes(job.status));
  for (const { job } of older) items.push(await get(`/v1/jobs/${job.id}`, {}, signal));
  for (const job of items) if (JSON.stringify(job) !== JSON.stringify(rows.get(job.id).job)) put(job);
}

function rowOf(job) {
  const name = el("a", { href: link(`jobs/${job.id}`) }, words(job.kind), " ", shortId(job.id));
  return tableRow(COLUMNS, [name, pill(job.status), progressBar(job), timeOf(job), when(job.created_at)]);
}
