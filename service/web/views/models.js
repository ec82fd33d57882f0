/** Models, and which of them serve. */

import { announce } from "../announce.js";
import { get, send } from "../api.js";
import { confirmed } from "../confirm-dialog.js";
import { el } from "../dom.js";
import { percent, shortId, when, words } from "../format.js";
import { heading } from "../heading.js";
import { during, emptyNotice } from "../notice.js";
import { link } from "../place.js";
import { promoteButton } from "../promotion.js";
import { paged, table, tableRow } from "../table.js";

const COLUMNS = ["Model", "Encoder", "Probes", "Serves as", "Created", ""];
const CHANGES = ["When", "Model", "Before"];

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const { signal } = place;
  const said = el("div", {});
  const list = el("div", {});
  const aliases = el("div", {});
  place.root.replaceChildren(heading(place, "Models"), said, list, aliases);
  const load = async () => {
    await showModels(list, said, load, signal);
    await showAliases(aliases, said, load, signal);
  };
  await load();
}

async function showModels(list, said, reload, signal) {
  const shown = table("Models", COLUMNS, []);
  const body = shown.querySelector("tbody");
  const more = await paged(async (cursor) => {
    const page = await get("/v1/models", { cursor }, signal);
    body.append(...page.items.map((model) => rowOf(model, said, reload, signal)));
    return page.next;
  });
  const pretrain = el("a", { href: link("jobs/new", { kind: "pretrain" }) }, "Pretrain one");
  list.replaceChildren(...(body.hasChildNodes() ? [shown, more] : [emptyNotice("No models", pretrain, ": a job that succeeds leaves its model here.")]));
}

function rowOf(model, said, reload, signal) {
  const probes = Object.entries(model.probes).map(([kind, { top1 }]) => `${words(kind)} ${percent(top1)}`);
  return tableRow(COLUMNS, [
    el("a", { href: link(`models/${model.id}`) }, shortId(model.id)),
    `${model.recipe.encoder.name}, ${model.recipe.preprocessing.image_size} px`,
    probes.join(", ") || "–",
    model.aliases.length > 0 ? model.aliases.map((name) => el("span", { class: "pill alias" }, name)) : "–",
    when(model.created_at),
    model.aliases.includes("production") ? "" : promoteButton(model.id, said, reload, signal),
  ]);
}

async function showAliases(where, said, reload, signal) {
  const { items } = await get("/v1/aliases", { limit: 100 }, signal);
  const sections = await Promise.all(items.map((alias) => aliasSection(alias, said, reload, signal)));
  where.replaceChildren(...sections);
}

async function aliasSection({ name }, said, reload, signal) {
  const path = `/v1/aliases/${encodeURIComponent(name)}`;
  const { items } = await get(`${path}/history`, { limit: 10 }, signal);
  const model = (id) => (id ? el("a", { href: link(`models/${id}`) }, shortId(id)) : "–");
  const back = el("button", { type: "button", onclick: () => during(back, said, async () => {
    const isSure = await confirmed(`Roll “${name}” back?`, "The model before the last change serves again, from the next request on.", "Roll back");
    if (!isSure) return;
    await send("POST", `${path}/rollback`, undefined, { signal });
    announce("Rolled back");
    await reload();
  }) }, "Roll back");
  return el(
    "section",
    { "aria-label": `Alias ${name}` },
    el("header", { class: "heading" }, el("h2", {}, `History of “${name}”`), el("div", { class: "actions" }, items[0]?.previous_model_id && back)),
    items.length > 0 && table(`History of ${name}`, CHANGES, items.map((change) => [when(change.at), model(change.model_id), model(change.previous_model_id)])),
    items.length === 0 && el("p", { class: "help" }, "It has not changed."),
  );
}
