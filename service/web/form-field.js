/** One field of a form: label, control, help and its error. */

import { el, newId } from "./dom.js";
import { prose } from "./prose.js";

/**
 * @typedef {Object} Field
 * @property {HTMLElement} element
 * @property {string} path Its name in errors, such as `loss.temperature`.
 * @property {() => any} read Its value; undefined if it has none.
 * @property {(value: any) => void} write
 * @property {(message: string|null) => void} fail Mark it, or take the mark away.
 */

/**
 * @param {string} path
 * @param {string} label
 * @param {string} help
 * @param {{control: HTMLElement, read: () => any, write: (value: any) => void}} input
 * @returns {Field}
 */
export function formField(path, label, help, { control, read, write }) {
  const [id, helpId, errorId] = [newId("field"), newId("help"), newId("error")];
  control.id = id;
  control.setAttribute("aria-describedby", help ? `${helpId} ${errorId}` : errorId);
  const error = el("p", { class: "field-error", id: errorId, hidden: true });
  const isCheck = control.type === "checkbox";
  const name = el("label", { for: id }, label);
  const element = el(
    "div",
    { class: isCheck ? "field check" : "field", "data-path": path },
    ...(isCheck ? [control, name] : [name, control]),
    help && el("p", { class: "help", id: helpId }, prose(help)),
    error,
  );
  const fail = (message) => {
    error.hidden = message === null;
    error.textContent = message ?? "";
    if (message === null) control.removeAttribute("aria-invalid");
    else control.setAttribute("aria-invalid", "true");
  };
  return { element, path, read, write, fail };
}

/** A choice. @param {Array<[string, any]>} options Texts and values. */
export function choice(options, onchange = null) {
  const control = el("select", { onchange }, ...options.map(([text], i) => el("option", { value: i }, text)));
  return {
    control,
    read: () => options[control.selectedIndex]?.[1],
    write: (value) => {
      control.selectedIndex = options.findIndex(([, one]) => JSON.stringify(one) === JSON.stringify(value));
    },
  };
}

export function checkbox() {
  const control = el("input", { type: "checkbox" });
  return { control, read: () => control.checked, write: (value) => { control.checked = value === true; } };
}

/**
 * A text that stands for a value.
 * @param {HTMLElement} control
 * @param {(text: string) => any} parse @param {(value: any) => string} show
 */
export function written(control, parse, show) {
  return {
    control,
    read: () => (control.value.trim() === "" ? undefined : parse(control.value.trim())),
    write: (value) => { control.value = value === null || value === undefined ? "" : show(value); },
  };
}

/**
 * Show the errors of an answer at their fields, and bring the first one into view.
 * @param {Field[]} fields
 * @param {{field: string, message: string}[]} errors
 * @param {string} prefix Of the fields' paths in the errors.
 * @returns {{field: string, message: string}[]} Those that belong to no field.
 */
export function showErrors(fields, errors, prefix = "") {
  for (const field of fields) field.fail(null);
  const failed = [];
  const others = errors.filter(({ field: path, message }) => {
    const field = closest(fields, path, prefix);
    field?.fail(message);
    if (field) failed.push(field);
    return !field;
  });
  for (const { element } of failed) unfold(element);
  const first = fields.find((field) => failed.includes(field))?.element;
  first?.querySelector("[aria-invalid]").focus();
  return others;
}

/** Open what an element is folded in. */
function unfold(element) {
  for (let fold = element.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
}

/** The field at a path, or that the path leads into: `operations.0` is in `operations`. */
function closest(fields, path, prefix) {
  for (let steps = path.split("."); steps.length > 0; steps = steps.slice(0, -1)) {
    const found = fields.find((field) => `${prefix}${field.path}` === steps.join("."));
    if (found) return found;
  }
  return undefined;
}
