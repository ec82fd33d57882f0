/** A curve as SVG, with its numbers as a table for those who don't see it. */

import { el, newId, svg } from "./dom.js";
import { figure } from "./format.js";
import { table } from "./table.js";

const MAX_POINTS = 400;
const MAX_ROWS = 25;
const HEIGHT = 180;
const [LEFT, RIGHT, TOP, BOTTOM] = [56, 12, 10, 24];

/** A chart of one measure over the steps. */
export class LineChart {
  /** @param {string} name Of the measure. @param {string} about What it means. */
  constructor(name, about = "") {
    this.name = name;
    this.points = [];
    this.drawing = el("div", { class: "drawing" });
    this.rows = el("div", {});
    const details = el("details", {}, el("summary", {}, "As a table"), this.rows);
    details.addEventListener("toggle", () => this.#tabulate(details.open));
    this.details = details;
    this.newest = el("span", { class: "newest" });
    this.element = el("figure", { class: "chart" }, el("figcaption", {}, el("strong", {}, name), " ", this.newest, about && el("span", { class: "about" }, about)), this.drawing, details);
    new ResizeObserver(() => this.#draw()).observe(this.drawing);
  }

  /** @param {Array<[number, number]>} points [step, value], in order of steps. */
  set(points) {
    this.points = thinned(points.filter(([, y]) => typeof y === "number"), MAX_POINTS);
    this.newest.textContent = this.points.length > 0 ? figure(this.points.at(-1)[1]) : "";
    this.#draw();
    this.#tabulate(this.details.open);
  }

  #tabulate(isOpen) {
    if (!isOpen) return;
    const rows = thinned(this.points, MAX_ROWS).map(([x, y]) => [figure(x), figure(y)]);
    this.rows.replaceChildren(table(this.name, ["step", this.name], rows));
  }

  #draw() {
    const width = this.drawing.clientWidth;
    if (width === 0 || this.points.length === 0) return;
    const [x, y] = [scale(this.points.map(([at]) => at), LEFT, width - RIGHT), scale(this.points.map(([, at]) => at), HEIGHT - BOTTOM, TOP)];
    const path = this.points.map((point, i) => `${i ? "L" : "M"}${x.of(point[0]).toFixed(1)} ${y.of(point[1]).toFixed(1)}`).join("");
    const [title, about] = [newId("chart"), newId("chart")];
    const [first, last] = [this.points[0], this.points.at(-1)];
    this.drawing.replaceChildren(
      svg(
        "svg",
        { viewBox: `0 0 ${width} ${HEIGHT}`, role: "img", "aria-labelledby": title, "aria-describedby": about },
        svg("title", { id: title }, this.name),
        svg("desc", { id: about }, `From ${figure(first[1])} at step ${figure(first[0])} to ${figure(last[1])} at step ${figure(last[0])}.`),
        ...y.ticks.map((at) => [
          svg("line", { class: "grid", x1: LEFT, x2: width - RIGHT, y1: y.of(at), y2: y.of(at) }),
          svg("text", { x: LEFT - 8, y: y.of(at) + 4, "text-anchor": "end" }, figure(at)),
        ]).flat(),
        ...x.ticks.map((at) => svg("text", { x: x.of(at), y: HEIGHT - 6, "text-anchor": "middle" }, figure(at))),
        svg("path", { class: "line", d: path }),
        svg("circle", { class: "end", cx: x.of(last[0]), cy: y.of(last[1]), r: 3.5 }),
      ),
    );
  }
}

/** At most so many points: of each stretch the last one. */
export function thinned(points, most) {
  if (points.length <= most) return points;
  return Array.from({ length: most }, (_, i) => points[Math.floor(((i + 1) * points.length) / most) - 1]);
}

/** A linear scale over the values, and round numbers on it. */
export function scale(values, from, to) {
  let [low, high] = [Math.min(...values), Math.max(...values)];
  if (low === high) [low, high] = [low - (Math.abs(low) || 1) / 2, high + (Math.abs(high) || 1) / 2];
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((factor) => factor * power).find((size) => size >= rough);
  const ticks = [];
  for (let at = Math.ceil(low / step) * step; at <= high + step / 1e6; at += step) ticks.push(Number(at.toPrecision(12)));
  return { of: (value) => from + ((value - low) / (high - low)) * (to - from), ticks };
}
