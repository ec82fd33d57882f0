/** Numbers, times and ids for people. */

import { el } from "./dom.js";

const NUMBER = new Intl.NumberFormat("en");
const AGO = new Intl.RelativeTimeFormat("en", { numeric: "auto", style: "short" });
const MOMENT = new Intl.DateTimeFormat("en", { day: "numeric", month: "short", hour: "2-digit", minute: "2-digit", hourCycle: "h23" });
const UNITS = [["day", 86400], ["hour", 3600], ["minute", 60], ["second", 1]];

/** 1,234 */
export function count(number) {
  return NUMBER.format(number);
}

/** `1 image`, `2 images` */
export function counted(number, noun) {
  return `${count(number)} ${noun}${number === 1 ? "" : "s"}`;
}

/** A measured number, with four digits that say something. */
export function figure(number) {
  if (typeof number !== "number") return String(number ?? "–");
  if (Number.isInteger(number)) return count(number);
  return Math.abs(number) >= 1e-4 && Math.abs(number) < 1e6 ? String(Number(number.toPrecision(4))) : number.toExponential(2);
}

/** 0.1234 -> 12.3% */
export function percent(share) {
  return share === null || share === undefined ? "–" : `${(100 * share).toFixed(1)}%`;
}

/** 3725 -> 1 h 2 min */
export function duration(seconds) {
  if (seconds === null || seconds === undefined) return "–";
  const s = Math.max(0, Math.round(seconds));
  if (s < 60) return `${s} s`;
  if (s < 3600) return `${Math.floor(s / 60)} min ${s % 60} s`;
  return `${Math.floor(s / 3600)} h ${Math.floor((s % 3600) / 60)} min`;
}

export function bytes(number) {
  const units = ["B", "kB", "MB", "GB", "TB"];
  const power = Math.min(units.length - 1, Math.max(0, Math.floor(Math.log10(Math.max(number, 1)) / 3)));
  return `${Number((number / 1000 ** power).toPrecision(3))} ${units[power]}`;
}

/** An instant as an element: how long ago, and when exactly. */
export function when(instant) {
  if (!instant) return "–";
  const at = new Date(instant);
  const seconds = (at.getTime() - Date.now()) / 1000;
  const [unit, size] = UNITS.find(([, length]) => Math.abs(seconds) >= length) ?? UNITS.at(-1);
  return el("time", { datetime: instant, title: at.toLocaleString() }, AGO.format(Math.trunc(seconds / size), unit));
}

/** An instant as a short text: Jan 12, 14:05 */
export function moment(instant) {
  return MOMENT.format(new Date(instant));
}

/** The end of an id, which tells things apart; the whole is its title. */
export function shortId(id) {
  return el("code", { title: id }, `…${id.slice(-6)}`);
}

/** linear_probe -> linear probe */
export function words(name) {
  return name.replaceAll("_", " ");
}
