/** Tables; on a phone each row is a card (style.css), so the roles are said: `display` would take them away. */

import { el } from "./dom.js";
import { during } from "./notice.js";

/**
 * @param {string} caption
 * @param {string[]} columns
 * @param {Array<Array<any>>} rows A node or text for each column.
 */
export function table(caption, columns, rows) {
  return el(
    "div",
    { class: "table" },
    el(
      "table",
      { role: "table" },
      el("caption", { class: "unseen" }, caption),
      el("thead", { role: "rowgroup" }, el("tr", { role: "row" }, ...columns.map(header))),
      el("tbody", { role: "rowgroup" }, ...rows.map((row) => tableRow(columns, row))),
    ),
  );
}

function header(name) {
  return el("th", { scope: "col", role: "columnheader" }, name || el("span", { class: "unseen" }, "Actions"));
}

/** A row to be added to a table of these columns. */
export function tableRow(columns, cells) {
  return el("tr", { role: "row" }, ...cells.map((cell, i) => el("td", { role: "cell", "data-label": columns[i] }, cell ?? "–")));
}

/**
 * Names and values.
 * @param {Array<[string, any]>} pairs Those without a value are left out.
 */
export function facts(pairs) {
  const given = pairs.filter(([, value]) => ![null, undefined, false, ""].includes(value));
  return el("dl", { class: "facts" }, ...given.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
}

/**
 * Pages of a list, one after the other, by a button.
 * @param {(cursor: string|null) => Promise<string|null>} show Adds the page after a cursor, and says the next one.
 */
export async function paged(show) {
  const place = el("div", { class: "more" });
  const next = async (cursor) => {
    const following = await show(cursor);
    place.replaceChildren();
    if (following === null) return;
    const said = el("span", {});
    const button = el("button", { type: "button", onclick: () => during(button, said, () => next(following)) }, "Show more");
    place.append(button, said);
  };
  await next(null);
  return place;
}
