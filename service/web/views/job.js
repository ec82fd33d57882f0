/** A job, live. */

import { announce } from "../announce.js";
import { call, get, send } from "../api.js";
import { el, hold } from "../dom.js";
import { downloadLink } from "../download.js";
import { jobEvents } from "../events.js";
import { duration, figure, shortId, when, words } from "../format.js";
import { heading } from "../heading.js";
import { JobCurves } from "../job-curves.js";
import { resultOf } from "../job-result.js";
import { ENDED, pill } from "../job-status.js";
import { during, errorNotice } from "../notice.js";
import { protectedImage } from "../picture.js";
import { link } from "../place.js";
import { facts } from "../table.js";

const ANNOUNCED_SHARE = 0.25; // a screen reader is told every quarter

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const job = await get(`/v1/jobs/${place.id}`, {}, place.signal);
  const view = new JobView(place, job);
  await view.follow();
}

class JobView {
  constructor(place, job) {
    this.place = place;
    this.curves = new JobCurves();
    this.state = el("section", { "aria-label": "State" });
    this.said = el("div", {});
    this.events = el("ol", { class: "events", tabindex: "0" });
    this.warnings = el("div", {});
    this.announced = 0;
    place.root.replaceChildren(
      heading(place, `${words(job.kind)[0].toUpperCase()}${words(job.kind).slice(1)} job`, ...this.buttons()),
      this.said,
      this.state,
      this.warnings,
      this.curves.element,
      this.report(job),
      this.log(job),
      fold("Events", this.events),
      fold("Recipe", el("pre", { tabindex: "0" }, JSON.stringify(job.recipe, null, 2))),
    );
    this.update(job);
  }

  buttons() {
    const act = (action) => () => during(this[action], this.said, async () => {
      this.update(await send("POST", `/v1/jobs/${this.place.id}/${action}`, undefined, { signal: this.place.signal }));
      announce(action === "cancel" ? "Cancelling" : "Queued again");
      if (action === "resume") this.follow();
    });
    this.cancel = el("button", { type: "button", onclick: act("cancel") }, "Cancel");
    this.resume = el("button", { type: "button", class: "primary", onclick: act("resume") }, "Resume");
    return [this.cancel, this.resume];
  }

  /** Show the job's row. */
  update(job) {
    if (this.job && this.job.status !== job.status) announce(`The job is ${words(job.status)}`);
    this.job = job;
    this.cancel.hidden = !["queued", "running"].includes(job.status);
    this.resume.hidden = !["failed", "cancelled"].includes(job.status);
    this.progress = el("div", { class: "progress-now" });
    hold(
      this.state,
      el("p", { class: "state" }, pill(job.status), " ", el("code", {}, job.id)),
      job.error && el("div", { class: "notice error" }, el("p", {}, job.error.message, " ", el("code", {}, job.error.code))),
      this.progress,
      facts([
        ["Data set", job.dataset_id && el("a", { href: link(`datasets/${job.dataset_id}`) }, shortId(job.dataset_id))],
        ["Model", job.model_id && el("a", { href: link(`models/${job.model_id}`) }, shortId(job.model_id))],
        ["Part of", job.parent_id && el("a", { href: link(`jobs/${job.parent_id}`) }, shortId(job.parent_id))],
        ["Parts", job.kind === "ablation" && el("a", { href: link("jobs", { parent_id: job.id }) }, "its jobs")],
        ["Attempt", job.attempt > 0 && job.attempt],
        ["Created", when(job.created_at)],
        ["Took", job.finished_at && job.started_at && duration((new Date(job.finished_at) - new Date(job.started_at)) / 1000)],
      ]),
      job.result && resultOf(job),
    );
    this.showProgress(job.progress, job.eta_seconds);
  }

  showProgress(progress, etaSeconds) {
    if (!progress || ENDED.includes(this.job.status)) return this.progress.replaceChildren();
    const { step, steps, epoch, epochs, stage, images_per_second: speed, loss } = progress;
    const share = steps ? step / steps : undefined;
    const text = [
      stage && words(stage),
      epochs && `epoch ${figure(Math.floor(epoch))} of ${epochs}`,
      steps && `step ${figure(step)} of ${figure(steps)}`,
      speed && `${figure(Math.round(speed))} images/s`,
      etaSeconds !== null && etaSeconds !== undefined && `${duration(etaSeconds)} left`,
      loss !== undefined && `loss ${figure(loss)}`,
    ].filter(Boolean);
    this.progress.replaceChildren(el("progress", { max: 1, value: share, "aria-label": "Progress of this stage" }), el("p", {}, text.join(" · ")));
    if (share >= this.announced + ANNOUNCED_SHARE) {
      this.announced = Math.floor(share / ANNOUNCED_SHARE) * ANNOUNCED_SHARE;
      announce(`${Math.round(100 * this.announced)}% done`);
    }
    return undefined;
  }

  /** Show what happens until the job has ended. */
  async follow() {
    this.following?.abort();
    this.following = new AbortController();
    const signal = AbortSignal.any([this.following.signal, this.place.signal]);
    this.curves.clear();
    this.events.replaceChildren();
    this.warnings.replaceChildren();
    try {
      for await (const event of jobEvents(this.place.id, signal)) await this.take(event);
    } catch (error) {
      if (!signal.aborted) this.said.replaceChildren(errorNotice(error));
    }
  }

  async take({ type, data, at }) {
    if (type === "metrics") this.curves.add(data);
    if (type === "metrics" || type === "stage") {
      if (!ENDED.includes(this.job.status)) this.showProgress({ ...this.job.progress, ...data }, data.eta_seconds);
      return;
    }
    if (type === "warning") this.warnings.append(el("div", { class: "notice warning" }, el("p", {}, data.message ?? "", " ", el("code", {}, data.code ?? ""))));
    const said = Object.entries(data).map(([name, value]) => `${words(name)} ${typeof value === "object" ? JSON.stringify(value) : value}`);
    this.events.append(el("li", {}, when(at), " ", el("strong", {}, words(type)), " ", said.join(", ")));
    if (type === "status" && data.status !== this.job.status && !ENDED.includes(this.job.status)) {
      this.update(await get(`/v1/jobs/${this.place.id}`, {}, this.place.signal));
    }
  }

  /** What the process printed, when it is asked for. */
  log(job) {
    const text = el("pre", { tabindex: "0", role: "region", "aria-label": "Log" });
    const load = async () => {
      const content = await (await call(`/v1/jobs/${job.id}/log`, { signal: this.place.signal })).text();
      text.textContent = content || "Nothing yet.";
      text.scrollTop = text.scrollHeight;
    };
    const again = el("button", { type: "button", class: "quiet", onclick: () => during(again, this.said, load) }, "Read again");
    return fold("Log", el("div", {}, again, text), () => during(again, this.said, load));
  }

  /** The report's picture, when it is asked for: it takes the service a second. */
  report(job) {
    const content = el("div", {});
    const path = `/v1/jobs/${job.id}/report`;
    const load = () => {
      const image = protectedImage(`${path}?format=png`, { alt: "The report's figures", class: "report" });
      image.addEventListener("error", () => image.replaceWith(el("p", {}, "This job has no figures yet.")));
      content.replaceChildren(el("p", {}, downloadLink(`${path}?format=html`, `${job.id}.html`, "Open the whole report")), image);
    };
    return fold("Report", content, load);
  }
}

function fold(title, content, onOpen = null) {
  const details = el("details", { class: "panel" }, el("summary", {}, title), content);
  if (onOpen) details.addEventListener("toggle", () => details.open && onOpen());
  return details;
}
