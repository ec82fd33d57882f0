/** A model: how it was made, how well it agrees with its network, what probes measured. */

import { announce } from "../announce.js";
import { get, send } from "../api.js";
import { confirmed } from "../confirm-dialog.js";
import { el } from "../dom.js";
import { downloadLink } from "../download.js";
import { bytes, count, percent, shortId, when, words } from "../format.js";
import { heading } from "../heading.js";
import { during } from "../notice.js";
import { go, link } from "../place.js";
import { promoteButton } from "../promotion.js";
import { facts, table } from "../table.js";

const VARIANTS = ["Variant", "Status", "Cosine of h, least", "Cosine of h, mean", "Same neighbour", "Same ten"];

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const { id, signal } = place;
  const path = `/v1/models/${id}`;
  const said = el("div", {});
  const content = el("div", {});
  const load = async () => {
    const model = await get(path, {}, signal);
    promote.hidden = model.aliases.includes("production");
    content.replaceChildren(...contentOf(model));
  };
  const promote = promoteButton(id, said, load, signal);
  promote.classList.add("primary");
  const remove = el("button", { type: "button", class: "danger", onclick: () => during(remove, said, async () => {
    const isSure = await confirmed("Delete this model?", "Its files, its vectors and its classifiers are deleted for good.", "Delete the model");
    if (!isSure) return;
    await send("DELETE", path, undefined, { signal });
    announce("Deleted");
    go("models");
  }) }, "Delete");
  place.root.replaceChildren(heading(place, "Model", promote, el("a", { class: "button", href: link("jobs/new", { kind: "linear_probe", model: id }) }, "Probe"), remove), said, content);
  await load();
}

function contentOf(model) {
  const { recipe } = model;
  return [
    el("p", { class: "state" }, ...model.aliases.map((name) => el("span", { class: "pill alias" }, name)), " ", el("code", {}, model.id)),
    facts([
      ["Encoder", `${recipe.encoder.name}, width ${recipe.encoder.width}`],
      ["Input", `${recipe.preprocessing.image_size} px`],
      ["Trained by", model.job_id && el("a", { href: link(`jobs/${model.job_id}`) }, shortId(model.job_id))],
      ["Trained on", model.dataset_id && el("a", { href: link(`datasets/${model.dataset_id}`) }, shortId(model.dataset_id))],
      ["Least cosine to the network", model.parity_cosine.toFixed(6)],
      ["Created", when(model.created_at)],
    ]),
    section("Variants", table("Variants", VARIANTS, Object.entries(model.variants).map(variantRow))),
    section("Probes", Object.keys(model.probes).length > 0 ? table("Probes", ["Probe", "Top-1", "Top-5", "Job"], Object.entries(model.probes).map(probeRow)) : el("p", {}, "Nothing has measured it yet. A linear probe tells how good h is.")),
    section("Layers", table("Layers", ["Layer", "Size", "Recall@10 of its index"], Object.entries(model.layers).map(([name, size]) => layerRow(model, name, size)))),
    section("Files", table("Files", ["File", "Size", "sha256"], Object.entries(model.files).map((entry) => fileRow(model, entry)))),
  ];
}

function section(title, content) {
  return el("section", {}, el("h2", {}, title), content);
}

function variantRow([name, { status, reason, cosine, knn_agreement: agreement, knn_overlap: overlap }]) {
  const of = (kind) => cosine?.h?.[kind]?.toFixed(5) ?? "–";
  return [name, el("span", {}, status, reason && `: ${reason}`), of("min"), of("mean"), percent(agreement), percent(overlap)];
}

function probeRow([kind, { top1, top5, job_id: jobId }]) {
  return [words(kind), percent(top1), percent(top5), jobId && el("a", { href: link(`jobs/${jobId}`) }, shortId(jobId))];
}

function layerRow(model, name, size) {
  const index = model.indexes.find(({ layer }) => layer === name);
  return [name, count(size), index ? (index.recall === null ? "searched exactly" : percent(index.recall)) : "–"];
}

function fileRow(model, [name, { num_bytes: size, sha256 }]) {
  return [downloadLink(`/v1/models/${model.id}/files/${name}`, name, name), bytes(size), el("code", { title: sha256 }, `${sha256.slice(0, 12)}…`)];
}
