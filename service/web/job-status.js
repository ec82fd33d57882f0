/** How a job goes, in a word and as a bar. */

import { el } from "./dom.js";
import { duration, words } from "./format.js";

export const ENDED = ["succeeded", "failed", "cancelled"];

/** A state's name, with its colour and shape. */
export function pill(status) {
  return el("span", { class: `pill ${status}` }, words(status));
}

/**
 * The progress of a job in its stage.
 * @param {Object} job As the API has it.
 */
export function progressBar(job) {
  if (job.status === "succeeded") return el("span", {}, "100%"); // also if there was nothing to do
  const { step, steps, stage } = job.progress ?? {};
  const share = steps ? step / steps : null;
  if (share === null || job.status !== "running") return share !== null && job.status !== "queued" ? el("span", {}, `${Math.round(100 * share)}%`) : el("span", {}, stage ?? "–");
  const name = `${words(job.kind)}${stage ? `, ${stage}` : ""}`;
  return el(
    "span",
    { class: "progress" },
    el("progress", { max: 1, value: share, "aria-label": name }),
    el("span", {}, `${Math.round(100 * share)}%`),
  );
}

/** Time left in the stage, or how long it took. */
export function timeOf(job) {
  if (job.status === "running") return job.eta_seconds === null ? "–" : `${duration(job.eta_seconds)} left`;
  if (!job.started_at || !job.finished_at) return "–";
  return duration((new Date(job.finished_at) - new Date(job.started_at)) / 1000);
}
