/** A form made of a JSON Schema: what the API says of a recipe is all that is known of it here. */

import { el } from "./dom.js";
import { checkbox, choice, formField, written } from "./form-field.js";
import { words } from "./format.js";
import { prose } from "./prose.js";

const UNFOLDED = ["schedule"]; // what nearly everybody sets

/** The fields of a schema's object, with nested objects as folded groups. */
export class SchemaForm {
  /**
   * @param {Object} schema
   * @param {Object} start The values that hold if nothing is said.
   * @param {string[]} omitted Names of fields that stand elsewhere.
   */
  constructor(schema, start, omitted = []) {
    this.definitions = schema.$defs ?? {};
    this.start = start;
    this.fields = [];
    this.element = el("div", { class: "fields" }, ...this.#controls(schema, [], omitted));
  }

  /** Where its values start from, when that changes: another preset. */
  restart(start) {
    this.start = start;
    for (const field of this.fields) field.write(at(start, field.path.split(".")));
  }

  /** The values that differ from the start, nested as the schema is. Throws SyntaxError for what is no JSON. */
  changed() {
    const found = {};
    for (const field of this.fields) {
      const steps = field.path.split(".");
      const value = field.read() ?? null;
      const before = at(this.start, steps) ?? null;
      if (JSON.stringify(value) !== JSON.stringify(before)) put(found, steps, value);
    }
    return found;
  }

  #controls(schema, path, omitted) {
    const entries = Object.entries(schema.properties ?? {}).filter(([name]) => !omitted.includes(name));
    const simple = [];
    const nested = [];
    for (const [name, said] of entries) {
      const { type, isNullable } = this.#resolved(said);
      if (type.const !== undefined) continue;
      if (type.properties) nested[UNFOLDED.includes(name) ? "unshift" : "push"](this.#group(type, [...path, name]));
      else simple.push(this.#field({ ...said, ...type }, [...path, name], isNullable));
    }
    return [...simple, ...nested];
  }

  #group(schema, path) {
    const name = path.at(-1);
    return el(
      "details",
      { class: "group", open: UNFOLDED.includes(name) },
      el("summary", {}, sentence(name)),
      el("p", { class: "help" }, prose(schema.description?.split("\n")[0])),
      el("fieldset", {}, el("legend", { class: "unseen" }, sentence(name)), ...this.#controls(schema, path, [])),
    );
  }

  #field(schema, path, isNullable) {
    const field = formField(path.join("."), sentence(path.at(-1)), help(schema), input(schema, isNullable));
    field.write(at(this.start, path));
    this.fields.push(field);
    return field.element;
  }

  /** A schema without its reference, and without the null that it allows. */
  #resolved(schema) {
    if (schema.anyOf) {
      const type = schema.anyOf.find((one) => one.type !== "null");
      return { type: this.#resolved(type).type, isNullable: true };
    }
    return { type: schema.$ref ? this.definitions[schema.$ref.split("/").at(-1)] : schema, isNullable: false };
  }
}

function input(schema, isNullable) {
  if (schema.enum) return choice([...(isNullable ? [["–", null]] : []), ...schema.enum.map((value) => [String(value), value])]);
  if (schema.type === "boolean") return checkbox();
  if (schema.type === "integer" || schema.type === "number") {
    const { minimum: min, maximum: max } = schema;
    const step = schema.type === "integer" ? 1 : "any";
    return written(el("input", { type: "number", min, max, step, inputmode: "decimal" }), Number, String);
  }
  if (schema.type === "array") {
    const parse = (text) => text.split(",").map((part) => valueOf(part.trim())).filter((value) => value !== "");
    return written(el("input", { type: "text", spellcheck: "false" }), parse, (value) => value.join(", "));
  }
  if (schema.type === "string") return written(el("input", { type: "text", maxlength: schema.maxLength }), String, String);
  const area = el("textarea", { rows: 4, spellcheck: "false" });
  return written(area, JSON.parse, (value) => JSON.stringify(value, null, 2));
}

/** A member of a list: a number, or a name. */
function valueOf(text) {
  return text !== "" && Number.isFinite(Number(text)) ? Number(text) : text;
}

function help(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  const high = schema.maximum ?? schema.exclusiveMaximum;
  const range = low !== undefined && high !== undefined ? `${low} to ${high}.` : low !== undefined ? `At least ${low}.` : "";
  const members = schema.items?.enum ? `Any of ${schema.items.enum.join(", ")}, with commas between.` : "";
  return [schema.description, range, members].filter(Boolean).join(" ");
}

/** The values that a schema has by default. */
export function defaultsOf(schema) {
  const given = Object.entries(schema.properties ?? {}).filter(([, said]) => said.default !== undefined);
  return Object.fromEntries(given.map(([name, said]) => [name, said.default]));
}

function sentence(name) {
  const text = words(name);
  return text[0].toUpperCase() + text.slice(1);
}

function at(values, steps) {
  return steps.reduce((value, step) => value?.[step], values);
}

function put(values, steps, value) {
  for (const step of steps.slice(0, -1)) values = values[step] ??= {};
  values[steps.at(-1)] = value;
}
