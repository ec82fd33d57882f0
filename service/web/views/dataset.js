/** A data set: what is in it, and what is not. */

import { announce } from "../announce.js";
import { get, send } from "../api.js";
import { confirmed } from "../confirm-dialog.js";
import { el } from "../dom.js";
import { count, shortId, when } from "../format.js";
import { heading } from "../heading.js";
import { pill } from "../job-status.js";
import { during, errorNotice } from "../notice.js";
import { go, link } from "../place.js";
import { keepLooking } from "../refresh.js";
import { facts, paged, table, tableRow } from "../table.js";

const LOOK_MILLISECONDS = 1000;
const REJECTED = ["File", "Reason", "Detail"];

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const { signal } = place;
  const path = `/v1/datasets/${place.id}`;
  const said = el("div", {});
  const content = el("div", {});
  let dataset = await get(path, {}, signal);
  const remove = el("button", { type: "button", class: "danger", onclick: () => during(remove, said, async () => {
    const isSure = await confirmed(`Delete “${dataset.name}”?`, "Its images are deleted for good. Models that were trained on it stay.", "Delete the data set");
    if (!isSure) return;
    await send("DELETE", path, undefined, { signal });
    announce("Deleted");
    go("datasets");
  }) }, "Delete");
  const train = el("a", { class: "button primary", href: link("jobs/new", { kind: "pretrain", dataset: place.id }) }, "Pretrain on it");
  place.root.replaceChildren(heading(place, dataset.name, train, remove), said, content);
  const update = async () => {
    train.hidden = dataset.status !== "ready";
    content.replaceChildren(...(await contentOf(dataset, path, signal)));
  };
  await update();
  if (dataset.status !== "validating") return;
  keepLooking(LOOK_MILLISECONDS, signal, async () => {
    dataset = await get(path, {}, signal);
    if (dataset.status === "validating") return true;
    announce(`The data set is ${dataset.status}`);
    await update();
    return false;
  }, (error) => said.replaceChildren(errorNotice(error)));
}

async function contentOf(dataset, path, signal) {
  const sizes = dataset.image_sizes;
  return [
    el("p", { class: "state" }, pill(dataset.status), " ", el("code", {}, dataset.id)),
    dataset.error && el("div", { class: "notice error", role: "alert" }, el("p", {}, dataset.error.message, " ", el("code", {}, dataset.error.code))),
    facts([
      ["Images", dataset.num_images !== null && count(dataset.num_images)],
      ["Duplicates left out", dataset.num_duplicates && count(dataset.num_duplicates)],
      ["Rejected", dataset.num_rejected && count(dataset.num_rejected)],
      ["Sizes", sizes && `${sizes.min.join(" × ")} to ${sizes.max.join(" × ")}, median ${sizes.median.join(" × ")}`],
      ["Archive", dataset.archive_name],
      ["Validated by", dataset.job_id && el("a", { href: link(`jobs/${dataset.job_id}`) }, shortId(dataset.job_id))],
      ["Created", when(dataset.created_at)],
    ]),
    dataset.splits && dataset.classes.length > 0 && classTable(dataset),
    dataset.status !== "validating" && (await rejections(path, signal)),
  ].filter(Boolean);
}

function classTable({ classes, splits }) {
  const names = Object.keys(splits);
  const rows = classes.map((name, i) => [name, ...names.map((split) => count(splits[split].per_class[i]))]);
  const title = `${count(classes.length)} ${classes.length === 1 ? "class" : "classes"}: ${names.map((split) => `${split} ${count(splits[split].num_images)}`).join(", ")}`;
  return el("section", {}, el("h2", {}, title), table("Images of each class", ["Class", ...names], rows));
}

async function rejections(path, signal) {
  const shown = table("Files that are not in the data set", REJECTED, []);
  const body = shown.querySelector("tbody");
  const more = await paged(async (cursor) => {
    const page = await get(`${path}/rejected`, { cursor }, signal);
    body.append(...page.items.map(({ name, code, detail }) => tableRow(REJECTED, [name, el("code", {}, code), detail])));
    return page.next;
  });
  return body.hasChildNodes() && el("section", {}, el("h2", {}, "Files that are not in it"), shown, more);
}
