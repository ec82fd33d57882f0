/** The map on a canvas: one drawing a frame, however many moves there are. */

import { el } from "../dom.js";
import { blit, pixelsOf } from "./blit.js";
import { GridIndex } from "./grid-index.js";
import { isInside } from "./lasso.js";
import { markOf, stamp } from "./marks.js";
import { Viewport } from "./viewport.js";

const RADIUS = 4;
const NEAR_PIXELS = 10;
const PAN_PIXELS = 40; // of an arrow key
const ZOOM_STEP = 1.25;

export class MapPlot {
  /**
   * @param {{id: string, x: number, y: number, label: string|null}[]} points
   * @param {Array<string|null>} labels In the order of their marks.
   * @param {{onHover: (i: number, left: number, top: number) => void, onSelect: (selected: number[]) => void, signal: AbortSignal}} options
   */
  constructor(points, labels, { onHover, onSelect, signal }) {
    this.onHover = onHover;
    this.onSelect = onSelect;
    this.labels = labels;
    [this.xs, this.ys] = fitted(points);
    const places = new Map(labels.map((label, i) => [label, i]));
    this.labelOf = points.map(({ label }) => places.get(label));
    this.index = new GridIndex(this.xs, this.ys);
    this.viewport = new Viewport();
    this.selected = new Set();
    this.isShown = () => true;
    this.isLasso = false;
    this.pointers = new Map();
    this.canvas = el("canvas", { tabindex: "0", role: "application", "aria-label": "Map of the collection: arrow keys move it, plus and minus zoom. The list below has the same images." });
    this.#listen(signal);
  }

  /** @param {Iterable<number>} selected Positions of points. */
  select(selected) {
    this.selected = new Set(selected);
    this.draw();
  }

  /** Show these points only; all if null. */
  showOnly(shown) {
    this.isShown = shown === null ? () => true : (i) => shown.has(i);
    this.draw();
  }

  zoom(factor) {
    this.viewport.zoomAt(this.viewport.width / 2, this.viewport.height / 2, factor);
    this.draw();
  }

  reset() {
    this.viewport.reset();
    this.draw();
  }

  draw() {
    this.frame ??= requestAnimationFrame(() => this.#paint());
  }

  #listen(signal) {
    const { canvas } = this;
    const resized = new ResizeObserver(() => this.#resize());
    resized.observe(canvas);
    signal.addEventListener("abort", () => resized.disconnect());
    matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => this.#resize(), { signal });
    canvas.addEventListener("pointerdown", (event) => this.#down(event));
    canvas.addEventListener("pointermove", (event) => this.#move(event));
    for (const name of ["pointerup", "pointercancel"]) canvas.addEventListener(name, (event) => this.#up(event));
    canvas.addEventListener("pointerleave", () => this.onHover(-1, 0, 0));
    canvas.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.viewport.zoomAt(event.offsetX, event.offsetY, Math.exp(-event.deltaY / 400));
      this.draw();
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => this.#key(event));
  }

  #resize() {
    const ratio = devicePixelRatio;
    const { clientWidth: width, clientHeight: height } = this.canvas;
    if (width === 0) return;
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    this.viewport.resize(width, height);
    const isDark = matchMedia("(prefers-color-scheme: dark)").matches;
    this.ring = isDark ? "#ffffff" : "#111111";
    const marks = this.labels.map((_, i) => markOf(i, isDark));
    const drawn = marks.map((mark) => stamp(mark, RADIUS, ratio));
    this.plain = drawn.map((mark) => pixelsOf(mark, 0.9));
    this.faint = drawn.map((mark) => pixelsOf(mark, 0.3));
    this.chosen = marks.map((mark) => pixelsOf(stamp(mark, RADIUS + 1, ratio, this.ring), 1));
    this.image = new ImageData(this.canvas.width, this.canvas.height);
    this.draw();
  }

  #paint() {
    this.frame = null;
    if (!this.image) return;
    const out = new Uint32Array(this.image.data.buffer);
    out.fill(0);
    this.#stampAll(out, this.selected.size > 0 ? this.faint : this.plain, (i) => !this.selected.has(i));
    this.#stampAll(out, this.chosen, (i) => this.selected.has(i));
    const to = this.canvas.getContext("2d");
    to.putImageData(this.image, 0, 0);
    if (this.line) this.#paintLine(to);
  }

  #stampAll(out, stamps, isWanted) {
    const { width, height } = this.canvas;
    const ratio = devicePixelRatio;
    for (let i = 0; i < this.xs.length; i += 1) {
      if (!this.isShown(i) || !isWanted(i)) continue;
      const [left, top] = this.viewport.toPixels(this.xs[i], this.ys[i]);
      blit(out, width, height, stamps[this.labelOf[i]], left * ratio, top * ratio);
    }
  }

  #paintLine(to) {
    const ratio = devicePixelRatio;
    to.beginPath();
    this.line.forEach(([left, top], i) => (i ? to.lineTo(left * ratio, top * ratio) : to.moveTo(left * ratio, top * ratio)));
    to.closePath();
    to.strokeStyle = this.ring;
    to.lineWidth = 1.5 * ratio;
    to.setLineDash([5 * ratio, 4 * ratio]);
    to.stroke();
    to.setLineDash([]);
  }

  #down(event) {
    this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, [event.offsetX, event.offsetY]);
    if (this.pointers.size === 1 && (this.isLasso || event.shiftKey)) this.line = [[event.offsetX, event.offsetY]];
    else this.line = null;
    this.onHover(-1, 0, 0);
  }

  #move(event) {
    const before = this.pointers.get(event.pointerId);
    const now = [event.offsetX, event.offsetY];
    if (!before) {
      this.#hover(...now);
      return;
    }
    if (this.line) {
      this.line.push(now);
    } else if (this.pointers.size === 1) {
      this.viewport.pan(now[0] - before[0], now[1] - before[1]);
    } else {
      const [other] = [...this.pointers].filter(([id]) => id !== event.pointerId).map(([, place]) => place);
      const factor = distance(now, other) / Math.max(1, distance(before, other));
      this.viewport.zoomAt((now[0] + other[0]) / 2, (now[1] + other[1]) / 2, factor);
    }
    this.pointers.set(event.pointerId, now);
    this.draw();
  }

  #up(event) {
    this.pointers.delete(event.pointerId);
    const { line } = this;
    this.line = null;
    if (line && line.length > 2) this.onSelect(this.#inside(line.map(([left, top]) => this.viewport.toMap(left, top))));
    this.draw();
  }

  #inside(polygon) {
    const found = [];
    for (let i = 0; i < this.xs.length; i += 1) if (this.isShown(i) && isInside(this.xs[i], this.ys[i], polygon)) found.push(i);
    return found;
  }

  #hover(left, top) {
    const [x, y] = this.viewport.toMap(left, top);
    const i = this.index.nearest(x, y, NEAR_PIXELS / this.viewport.scale, this.isShown);
    this.canvas.classList.toggle("on-point", i !== -1);
    this.onHover(i, ...(i === -1 ? [0, 0] : this.viewport.toPixels(this.xs[i], this.ys[i])));
  }

  #key(event) {
    const moves = { ArrowLeft: [PAN_PIXELS, 0], ArrowRight: [-PAN_PIXELS, 0], ArrowUp: [0, PAN_PIXELS], ArrowDown: [0, -PAN_PIXELS] };
    if (event.key in moves) this.viewport.pan(...moves[event.key]);
    else if (event.key === "+" || event.key === "=") this.zoom(ZOOM_STEP);
    else if (event.key === "-") this.zoom(1 / ZOOM_STEP);
    else if (event.key === "0") this.reset();
    else return;
    event.preventDefault();
    this.draw();
  }
}

/** Coordinates in [0, 1], with the longer side filling it and the shape kept. */
function fitted(points) {
  const [xs, ys] = [new Float32Array(points.length), new Float32Array(points.length)];
  let [left, right, bottom, top] = [Infinity, -Infinity, Infinity, -Infinity];
  for (const { x, y } of points) {
    [left, right] = [Math.min(left, x), Math.max(right, x)];
    [bottom, top] = [Math.min(bottom, y), Math.max(top, y)];
  }
  const side = Math.max(right - left, top - bottom) || 1;
  points.forEach(({ x, y }, i) => {
    xs[i] = 0.5 + (x - (left + right) / 2) / side;
    ys[i] = 0.5 + (y - (bottom + top) / 2) / side;
  });
  return [xs, ys];
}

function distance([x1, y1], [x2, y2]) {
  return Math.hypot(x1 - x2, y1 - y2);
}
