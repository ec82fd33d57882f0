/** What came of a job: its numbers, and a table where it has rows. */

import { el } from "./dom.js";
import { figure, percent, shortId, words } from "./format.js";
import { link } from "./place.js";
import { facts, table } from "./table.js";

const SHARES = ["top1", "top5", "accuracy", "linear_top1", "knn_top1", "chance"];

/** @param {Object} job One that has a result. */
export function resultOf(job) {
  const { result } = job;
  const single = Object.entries(result).filter(([, value]) => ["number", "string", "boolean"].includes(typeof value));
  const rows = result.layers ?? result.rows ?? (result.cells && result.cells.map(cellRow));
  return el(
    "section",
    { "aria-label": "Result" },
    el("h2", {}, "Result"),
    facts(single.map(([name, value]) => [words(name), shown(name, value)])),
    Array.isArray(rows) && rows.length > 0 && rowsTable(rows),
  );
}

function shown(name, value) {
  if (name === "model_id") return el("a", { href: link(`models/${value}`) }, shortId(value));
  if (typeof value === "boolean") return value ? "yes" : "no";
  return SHARES.includes(name) && value !== null ? percent(value) : figure(value);
}

function cellRow({ values, mean, spread }) {
  return { ...values, mean, spread };
}

function rowsTable(rows) {
  const columns = Object.keys(rows[0]).filter((name) => rows.some((row) => typeof row[name] !== "object" || row[name] === null));
  return table("Rows of the result", columns.map(words), rows.map((row) => columns.map((name) => shown(name, row[name]))));
}
