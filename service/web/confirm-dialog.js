/** "Are you sure?" */

import { el, newId } from "./dom.js";

/**
 * @param {string} question
 * @param {string} consequence
 * @param {string} action What the button says.
 * @returns {Promise<boolean>}
 */
export function confirmed(question, consequence, action) {
  return new Promise((resolve) => {
    const [title, text] = [newId("dialog"), newId("dialog")];
    const dialog = el(
      "dialog",
      { "aria-labelledby": title, "aria-describedby": text },
      el("h2", { id: title }, question),
      el("p", { id: text }, consequence),
      el(
        "div",
        { class: "actions" },
        el("button", { type: "button", class: "danger", onclick: () => dialog.close("yes") }, action),
        el("button", { type: "button", class: "quiet", autofocus: true, onclick: () => dialog.close() }, "Keep it"),
      ),
    );
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(dialog.returnValue === "yes");
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
