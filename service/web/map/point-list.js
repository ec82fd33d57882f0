/** The map's images as a list, for those who use no pointer or don't see it. */

import { el } from "../dom.js";
import { count } from "../format.js";
import { nameOf, picture } from "../picture.js";

const PAGE = 30;

export class PointList {
  /**
   * @param {{id: string, label: string|null}[]} items
   * @param {(i: number, isChosen: boolean) => void} onChoose
   */
  constructor(items, onChoose) {
    this.items = items;
    this.onChoose = onChoose;
    this.page = 0;
    this.order = items.map((_, i) => i).sort((a, b) => String(items[a].label).localeCompare(String(items[b].label)) || a - b);
    this.content = el("div", {});
    this.element = el("details", { class: "panel" }, el("summary", {}, "All images as a list"), this.content);
    this.element.addEventListener("toggle", () => this.#draw());
  }

  /** @param {Set<number>} selected @param {Set<number>|null} shown */
  show(selected, shown) {
    this.selected = selected;
    if (shown !== this.shown) this.page = 0;
    this.shown = shown;
    const isOurs = this.content.contains(document.activeElement);
    if (isOurs) this.#check(); // a list made anew would take the focus away
    else this.#draw();
  }

  #check() {
    for (const box of this.content.querySelectorAll("input")) box.checked = this.selected.has(Number(box.value));
  }

  #draw() {
    if (!this.element.open) return;
    const order = this.shown ? this.order.filter((i) => this.shown.has(i)) : this.order;
    const last = Math.max(0, Math.ceil(order.length / PAGE) - 1);
    const turn = (text, by) => el("button", { type: "button", disabled: this.page + by < 0 || this.page + by > last, onclick: () => { this.page += by; this.#draw(); } }, text);
    const rows = order.slice(this.page * PAGE, (this.page + 1) * PAGE);
    this.content.replaceChildren(
      el("ul", { class: "points" }, ...rows.map((i) => this.#row(i))),
      el("div", { class: "actions" }, turn("Before", -1), el("span", { role: "status" }, `Page ${count(this.page + 1)} of ${count(last + 1)}`), turn("Next", 1)),
    );
  }

  #row(i) {
    const item = this.items[i];
    const box = el("input", { type: "checkbox", value: i, onchange: () => this.onChoose(i, box.checked) });
    box.checked = this.selected.has(i);
    return el("li", {}, el("label", {}, box, picture(item.id, 96, ""), el("span", {}, nameOf(item))));
  }
}
