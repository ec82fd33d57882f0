/** The curves of a job: one chart for each measure that its events have. */

import { el } from "./dom.js";
import { words } from "./format.js";
import { LineChart } from "./line-chart.js";

const ABOUT = {
  loss: "the training loss",
  contrastive_accuracy: "how often the positive is the nearest",
  entropy: "of the softmax over the batch, nats",
  alignment: "mean squared distance of positives",
  uniformity: "log of the mean Gaussian potential",
  knn_top1: "kNN probe of h among training images",
};
const FIRST = ["loss", "knn_top1", "contrastive_accuracy"];
const LEFT_OUT = ["step", "steps", "epoch", "epochs", "eta_seconds", "attempt", "stage"];

/** Charts that grow as events come; they are drawn once a frame. */
export class JobCurves {
  constructor() {
    this.element = el("section", { class: "charts", "aria-label": "Curves" });
    this.clear();
  }

  clear() {
    this.measures = new Map();
    this.element.replaceChildren();
  }

  /** @param {Object<string, any>} figures Of one step. A step that was trained again replaces what came after it. */
  add(figures) {
    for (const [name, value] of Object.entries(figures)) {
      if (LEFT_OUT.includes(name) || typeof value !== "number") continue;
      const { points } = this.#measure(name);
      while (points.length > 0 && points.at(-1)[0] >= figures.step) points.pop();
      points.push([figures.step, value]);
    }
    this.frame ??= requestAnimationFrame(() => this.#draw());
  }

  #measure(name) {
    if (!this.measures.has(name)) {
      const chart = new LineChart(words(name), ABOUT[name] ?? "");
      this.measures.set(name, { chart, points: [] });
      const names = [...this.measures.keys()].sort((a, b) => rank(a) - rank(b));
      this.element.append(...names.map((one) => this.measures.get(one).chart.element));
    }
    return this.measures.get(name);
  }

  #draw() {
    this.frame = null;
    for (const { chart, points } of this.measures.values()) chart.set(points);
  }
}

function rank(name) {
  const place = FIRST.indexOf(name);
  return place === -1 ? FIRST.length : place;
}
