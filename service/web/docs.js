/** All operations, as /openapi.json has them. */

import { get } from "./api.js";
import { el } from "./dom.js";
import { errorNotice } from "./notice.js";
import { prose } from "./prose.js";
import { table } from "./table.js";

const METHODS = ["get", "post", "put", "patch", "delete"];
const MAX_DEPTH = 3; // of a schema that is written out

const root = document.getElementById("operations");

try {
  const document_ = await get("/openapi.json");
  root.append(...paragraphs(document_.info.description), search(), ...document_.tags.map((tag) => tagSection(document_, tag)));
} catch (error) {
  root.append(errorNotice(error));
}

function search() {
  const input = el("input", { type: "search", id: "find", placeholder: "collections, cancel, embedding…" });
  input.addEventListener("input", () => {
    const words = input.value.toLowerCase().split(/\s+/);
    for (const one of root.querySelectorAll(".operation")) one.hidden = !words.every((word) => one.firstChild.textContent.toLowerCase().includes(word));
  });
  return el("p", { class: "field" }, el("label", { for: "find" }, "Find an operation"), input);
}

function tagSection(document_, { name, description }) {
  const found = Object.entries(document_.paths).flatMap(([path, methods]) =>
    METHODS.filter((method) => methods[method]?.tags.includes(name)).map((method) => operation(document_, path, method, methods[method])),
  );
  return el("section", {}, el("h2", {}, name), el("p", {}, prose(description)), ...found);
}

function operation(document_, path, method, said) {
  const parameters = (said.parameters ?? []).map((one) => [el("code", {}, one.name), one.in, typeOf(one.schema), el("span", {}, prose(one.description ?? one.schema.description))]);
  const bodies = Object.entries(said.requestBody?.content ?? {});
  return el(
    "details",
    { class: "panel operation", id: said.operationId },
    el("summary", {}, el("code", { class: `method ${method}` }, method.toUpperCase()), " ", el("code", {}, path), " ", el("span", { class: "help" }, prose(said.summary))),
    ...paragraphs(said.description),
    parameters.length > 0 && table("Parameters", ["Name", "In", "Type", "Meaning"], parameters),
    ...bodies.map(([type, { schema }]) => el("div", {}, el("h3", {}, `Body: ${type}`), schemaList(document_, schema, 0))),
    el("h3", {}, "Answers"),
    table("Answers", ["Status", "Meaning"], Object.entries(said.responses).map(([status, answer]) => [el("code", {}, status), el("span", {}, prose(resolved(document_, answer).description))])),
  );
}

/** The fields of a schema, with those that they have. */
function schemaList(document_, said, depth) {
  const schema = resolved(document_, said);
  const options = schema.oneOf ?? schema.anyOf?.filter(({ type }) => type !== "null");
  if (options && options.length > 1 && depth < MAX_DEPTH) {
    return el("ul", {}, ...options.map((one) => el("li", {}, el("strong", {}, titleOf(one)), schemaList(document_, one, depth + 1))));
  }
  const fields = Object.entries(resolved(document_, options?.[0] ?? schema).properties ?? {});
  if (fields.length === 0 || depth >= MAX_DEPTH) return el("span", {});
  return el(
    "ul",
    {},
    ...fields.map(([name, field]) => el("li", {}, el("code", {}, name), " ", el("em", {}, typeOf(field)), schema.required?.includes(name) && " required", " ", prose(field.description), schemaList(document_, field, depth + 1))),
  );
}

function resolved(document_, schema) {
  const steps = schema?.$ref?.split("/").slice(1);
  return steps ? steps.reduce((node, step) => node[step], document_) : (schema ?? {});
}

function titleOf(schema) {
  return schema.$ref?.split("/").at(-1) ?? schema.title ?? schema.type ?? "";
}

function typeOf(schema = {}) {
  if (schema.$ref) return titleOf(schema);
  if (schema.anyOf) return schema.anyOf.map(typeOf).join(" or ");
  if (schema.enum) return schema.enum.join(" | ");
  if (schema.type === "array") return `list of ${typeOf(schema.items)}`;
  return schema.type ?? "any";
}

function paragraphs(text = "") {
  return text.trim().split(/\n\n+/).map((one) => el("p", {}, prose(one)));
}
