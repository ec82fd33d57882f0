/** A collection in two dimensions: look, select, search with what was selected. */

import { announce } from "../announce.js";
import { get } from "../api.js";
import { el, hold } from "../dom.js";
import { count, counted } from "../format.js";
import { markOf, stamp } from "../map/marks.js";
import { MapPlot } from "../map/plot.js";
import { PointList } from "../map/point-list.js";
import { emptyNotice } from "../notice.js";
import { nameOf, picture } from "../picture.js";
import { go } from "../place.js";

const MAX_EXAMPLES = 100; // that a search takes
const [PREVIEW_WIDTH, PREVIEW_HEIGHT] = [170, 170];
const HOVER_MILLISECONDS = 60; // before an image is asked for

/** @param {import("../place.js").Place} place @param {Object} collection */
export async function showPart(place, collection) {
  const map = await get(`/v1/collections/${collection.id}/map`, {}, place.signal);
  if (map.items.length === 0) {
    place.root.replaceChildren(emptyNotice("No image has a vector yet", "The map shows what the model in production sees: promote one, and wait for its index job."));
    return;
  }
  new CollectionMap(place, collection, map);
}

class CollectionMap {
  constructor(place, collection, { items, num_images: numImages }) {
    this.signal = place.signal;
    this.collection = collection;
    this.items = items;
    this.selected = new Set();
    this.shown = null;
    this.labels = labelsOf(items);
    this.plot = new MapPlot(items, this.labels.map(([label]) => label), {
      signal: place.signal,
      onHover: (i, left, top) => this.hover(i, left, top),
      onSelect: (found) => this.select(found),
    });
    this.preview = el("div", { class: "map-preview", hidden: true, "aria-hidden": "true" });
    this.panel = el("section", { class: "map-selection", "aria-label": "Selection" });
    this.list = new PointList(items, (i, isChosen) => this.choose([i], isChosen));
    hold(
      place.root,
      this.toolbar(),
      el("div", { class: "map" }, el("div", { class: "map-canvas" }, this.plot.canvas, this.preview), this.legend()),
      numImages > items.length && el("p", { class: "help" }, `It shows ${count(items.length)} images; those without a vector, or beyond the first 100,000, are not on it.`),
      this.panel,
      this.list.element,
    );
    this.show();
  }

  toolbar() {
    const mode = (text, isLasso) => {
      const button = el("button", { type: "button", "aria-pressed": String(this.plot.isLasso === isLasso), onclick: () => {
        this.plot.isLasso = isLasso;
        for (const one of modes) one.setAttribute("aria-pressed", String(one === button));
      } }, text);
      return button;
    };
    const modes = [mode("Move", false), mode("Lasso", true)];
    const zoom = (text, name, act) => el("button", { type: "button", "aria-label": name, title: name, onclick: act }, text);
    return el(
      "div",
      { class: "toolbar", role: "toolbar", "aria-label": "Map" },
      ...modes,
      zoom("+", "Zoom in", () => this.plot.zoom(1.5)),
      zoom("−", "Zoom out", () => this.plot.zoom(1 / 1.5)),
      zoom("Reset", "Show everything", () => this.plot.reset()),
      el("span", { class: "help" }, "Shift and drag draws a lasso too."),
    );
  }

  /** The labels with their marks; each selects its images. */
  legend() {
    const dark = matchMedia("(prefers-color-scheme: dark)");
    const entries = this.labels.map(([label, number], i) => {
      const members = this.items.flatMap((item, position) => (item.label === label ? [position] : []));
      const mark = el("span", { class: "mark", "aria-hidden": "true" });
      const draw = () => mark.replaceChildren(stamp(markOf(i, dark.matches), 5, devicePixelRatio));
      dark.addEventListener("change", draw, { signal: this.signal });
      draw();
      const button = el("button", { type: "button", "aria-pressed": "false", onclick: () => {
        const isChosen = button.getAttribute("aria-pressed") !== "true";
        this.choose(members, isChosen);
      } }, mark, el("span", { class: "name" }, label ?? "no label"), el("span", { class: "number" }, count(number)));
      return { button, members };
    });
    this.entries = entries;
    return el("div", { class: "legend", role: "group", "aria-label": "Select by label" }, ...entries.map(({ button }) => button));
  }

  hover(i, left, top) {
    clearTimeout(this.hovering);
    this.preview.hidden = i === -1;
    if (i === -1) return;
    const item = this.items[i];
    const { clientWidth: width, clientHeight: height } = this.plot.canvas;
    const x = left + PREVIEW_WIDTH > width ? left - PREVIEW_WIDTH : left; // on the side that has room
    const y = top + PREVIEW_HEIGHT > height ? top - PREVIEW_HEIGHT : top;
    this.preview.style.translate = `${Math.round(x)}px ${Math.round(y)}px`;
    this.preview.replaceChildren(el("span", {}, nameOf(item)));
    this.hovering = setTimeout(() => this.preview.prepend(picture(item.id, 160, "")), HOVER_MILLISECONDS);
  }

  select(found) {
    this.selected = new Set(found);
    announce(`${counted(this.selected.size, "image")} selected`);
    this.show();
  }

  choose(positions, isChosen) {
    for (const i of positions) if (isChosen) this.selected.add(i); else this.selected.delete(i);
    this.select(this.selected);
  }

  /** Show the selection on the map, in the legend, in the list and in its panel. */
  show() {
    this.plot.select(this.selected);
    for (const { button, members } of this.entries) button.setAttribute("aria-pressed", String(members.every((i) => this.selected.has(i))));
    this.list.show(this.selected, this.shown);
    const positions = [...this.selected];
    const number = positions.length;
    const only = el("button", { type: "button", onclick: () => this.showOnly(new Set(positions)) }, "Show only these");
    const everything = el("button", { type: "button", onclick: () => this.showOnly(null) }, "Show all again");
    const search = el("button", { type: "button", class: "primary", onclick: () => this.search(positions) }, "Search with these");
    const clear = el("button", { type: "button", class: "quiet", onclick: () => this.select(new Set()) }, "Clear");
    this.panel.replaceChildren(
      el("h2", {}, number > 0 ? `${counted(number, "image")} selected` : this.shown ? `${counted(this.shown.size, "image")} shown` : "Nothing selected"),
      el("div", { class: "actions" }, ...(number > 0 ? [search, only] : []), ...(this.shown ? [everything] : []), ...(number > 0 ? [clear] : [])),
      el("ul", { class: "strip" }, ...positions.slice(0, 24).map((i) => el("li", {}, picture(this.items[i].id, 160, nameOf(this.items[i]))))),
      ...(number > 24 ? [el("p", { class: "help" }, `and ${count(number - 24)} more; the list has all of them.`)] : []),
    );
  }

  showOnly(shown) {
    this.shown = shown;
    if (shown) this.selected = new Set();
    this.plot.showOnly(shown);
    announce(shown ? `${counted(shown.size, "image")} shown` : "All images shown");
    this.show();
  }

  /** The selected as examples; of more than a search takes, some from everywhere among them. */
  search(positions) {
    const step = Math.max(1, positions.length / MAX_EXAMPLES);
    const some = Array.from({ length: Math.min(positions.length, MAX_EXAMPLES) }, (_, i) => positions[Math.floor(i * step)]);
    go("search", { collection: this.collection.name, like: some.map((i) => this.items[i].id) });
  }
}

/** The labels and how many images have each, commonest first. */
function labelsOf(items) {
  const numbers = new Map();
  for (const { label } of items) numbers.set(label, (numbers.get(label) ?? 0) + 1);
  return [...numbers].sort(([a, x], [b, y]) => y - x || String(a).localeCompare(String(b)));
}
