/** Start a job: the form that its kind's recipe asks for. */

import { get, send } from "../api.js";
import { el, hold } from "../dom.js";
import { choice, formField, showErrors, written } from "../form-field.js";
import { counted, moment, percent, words } from "../format.js";
import { heading } from "../heading.js";
import { during, errorNotice } from "../notice.js";
import { go, remember } from "../place.js";
import { prose } from "../prose.js";
import { defaultsOf, SchemaForm } from "../schema-form.js";

const WITHOUT_DATASET = ["index", "map"];
const WITHOUT_MODEL = ["pretrain", "ablation"];
const WITH_COLLECTION = ["map"]; // in the recipe
const ON_SEVERAL_NODES = ["pretrain", "ablation"];
const SUBJECTS = ["dataset", "collection", "model"]; // that the address may name
const NAME_LENGTH = 20; // of a data set, in the name of a model

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const { signal } = place;
  const [recipes, datasets, models, collections] = await Promise.all([
    get("/v1/recipes", {}, signal),
    get("/v1/datasets", { limit: 1000 }, signal),
    get("/v1/models", { limit: 1000 }, signal),
    get("/v1/collections", { limit: 1000 }, signal),
  ]);
  new NewJob(place, recipes, datasets.items, models.items, collections.items);
}

class NewJob {
  constructor(place, recipes, datasets, models, collections) {
    this.place = place;
    this.recipes = recipes;
    this.datasets = datasets.filter(({ status }) => status === "ready");
    this.names = new Map(datasets.map(({ id, name }) => [id, name]));
    this.models = models;
    this.collections = collections;
    this.said = el("div", {});
    this.form = el("form", { class: "job-form", novalidate: true, onsubmit: (event) => this.submit(event) });
    place.root.replaceChildren(heading(place, "Start a job"), this.form);
    const kind = place.query.get("kind");
    this.build(kind in recipes.schemas ? kind : "pretrain");
  }

  /** The form of a kind; what it asks for beside the recipe keeps what the address says. */
  build(kind) {
    const { query } = this.place;
    this.kind = kind;
    const schema = this.recipes.schemas[kind];
    const kinds = formField("kind", "Kind", schema.description ?? "", choice(Object.keys(this.recipes.schemas).map((name) => [words(name), name])));
    kinds.write(kind);
    kinds.element.addEventListener("change", () => {
      const chosen = kinds.read();
      remember("jobs/new", { kind: chosen, ...Object.fromEntries(SUBJECTS.map((name) => [name, query.get(name)])) });
      this.build(chosen);
      this.form.querySelector("select").focus();
    });
    this.fields = [kinds, ...this.subjects(), ...(ON_SEVERAL_NODES.includes(kind) ? nodeFields() : [])];
    this.recipe = new SchemaForm(schema, defaultsOf(schema), ["preset", "collection_id"]);
    const preset = kind === "pretrain" ? this.preset() : null;
    if (preset) this.fields.push(preset);
    this.button = el("button", { type: "submit", class: "primary" }, "Start");
    const where = this.fields.filter(({ path }) => path.startsWith("resources."));
    const what = this.fields.filter((field) => !where.includes(field));
    hold(
      this.form,
      el("div", { class: "fields" }, ...what.map(({ element }) => element)),
      el("h2", {}, "Recipe"),
      this.recipe.element,
      where.length > 0 && el("details", { class: "group" }, el("summary", {}, "Where it runs"), el("fieldset", {}, el("legend", { class: "unseen" }, "Where it runs"), ...where.map(({ element }) => element))),
      this.said,
      el("div", { class: "actions" }, this.button),
    );
  }

  /** What the job works on. */
  subjects() {
    const { query } = this.place;
    const subject = (path, label, asked, options, none) => {
      const field = formField(path, label, options.length > 0 ? "" : none, choice(options));
      field.write(asked ?? options[0]?.[1]);
      return field;
    };
    const withNumber = ({ id, name, num_images: number }) => [`${name} (${counted(number, "image")})`, id];
    const fields = [];
    if (!WITHOUT_DATASET.includes(this.kind)) {
      const none = "There is no data set yet that is ready: upload one under Data sets.";
      fields.push(subject("dataset_id", "Data set", query.get("dataset"), this.datasets.map(withNumber), none));
    }
    if (WITH_COLLECTION.includes(this.kind)) {
      const none = "There is no collection yet: make one under Collections.";
      fields.push(subject("recipe.collection_id", "Collection", query.get("collection"), this.collections.map(withNumber), none));
    }
    if (!WITHOUT_MODEL.includes(this.kind)) {
      const options = this.models.map((model) => [this.nameOf(model), model.id]);
      const field = subject("model_id", "Model", query.get("model"), options, "There is no model yet: pretrain one first.");
      field.element.classList.add("wide");
      fields.push(field);
    }
    return fields;
  }

  /** What tells a model from others, the most telling first: a narrow field shows the beginning. */
  nameOf({ id, recipe, dataset_id: datasetId, created_at: instant, probes, aliases }) {
    const name = this.names.get(datasetId) ?? "";
    const linear = probes.linear_probe && `${percent(probes.linear_probe.top1)} linear`;
    const knn = probes.knn_probe && `${percent(probes.knn_probe.top1)} kNN`;
    const trainedOn = name.length > NAME_LENGTH ? `${name.slice(0, NAME_LENGTH - 1)}…` : name;
    return [trainedOn, linear ?? knn, moment(instant), ...aliases, recipe.encoder?.name, `…${id.slice(-6)}`].filter(Boolean).join(" · ");
  }

  /** The preset fills the recipe; what is changed after that goes with it. */
  preset() {
    const names = Object.keys(this.recipes.presets);
    const field = formField("recipe.preset", "Preset", " ", choice(names.map((name) => [name, name])));
    const apply = () => {
      const { description, recipe } = this.recipes.presets[field.read()];
      field.element.querySelector(".help").replaceChildren(...prose(description));
      this.recipe.restart(recipe);
    };
    field.write(names.includes("cpu-small") ? "cpu-small" : names[0]);
    field.element.addEventListener("change", apply);
    apply();
    return field;
  }

  request() {
    const request = { kind: this.kind, recipe: this.recipe.changed() };
    for (const { path, read } of this.fields) {
      const steps = path.split(".");
      const value = read();
      if (value === undefined) continue;
      let holder = request;
      for (const step of steps.slice(0, -1)) holder = holder[step] ??= {};
      holder[steps.at(-1)] = value;
    }
    return request;
  }

  submit(event) {
    event.preventDefault();
    during(this.button, this.said, async () => {
      try {
        const key = Array.from(crypto.getRandomValues(new Uint32Array(4)), (part) => part.toString(36)).join("");
        const job = await send("POST", "/v1/jobs", this.request(), { signal: this.place.signal, headers: { "Idempotency-Key": key } });
        go(`jobs/${job.id}`);
      } catch (error) {
        this.fail(error);
      }
    });
  }

  /** Errors at their fields; the others, and how many there are, below the form. */
  fail(error) {
    const rest = showErrors(this.recipe.fields, showErrors(this.fields, error.errors ?? []), "recipe.");
    const shown = Object.assign(error, { errors: rest });
    this.said.replaceChildren(errorNotice(shown));
  }
}

function nodeFields() {
  const number = () => written(el("input", { type: "number", min: 1, max: 512, step: 1, placeholder: "1" }), Number, String);
  return [
    formField("resources.device", "Device", "auto: a GPU if any node has one.", choice(["auto", "cpu", "cuda"].map((name) => [name, name]))),
    formField("resources.processes_per_node", "Processes a node", "Each has a GPU of its own, or a share of the cores.", number()),
    formField("resources.nodes.min", "Nodes, at least", "It waits until so many are free at once.", number()),
    formField("resources.nodes.max", "Nodes, at most", "It grows when more come.", number()),
  ];
}
