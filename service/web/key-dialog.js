/** The dialog that takes an API key. */

import { el, newId } from "./dom.js";
import { currentKey, forgetKey, keepKey } from "./key.js";

let asking = null;
let isDeclined = false;

/**
 * Ask for a key, once for all requests that lack one.
 * @param {string} why
 * @returns {Promise<boolean>} Whether there is a new key; false without asking if the user has declined on this view.
 */
export function askForKey(why) {
  if (isDeclined) return Promise.resolve(false);
  asking ??= openKeyDialog(why).then((isGiven) => {
    asking = null;
    isDeclined = !isGiven;
    return isGiven;
  });
  return asking;
}

/** Ask again when the next request lacks a key: the user has gone somewhere else. */
export function askAgain() {
  isDeclined = false;
}

/**
 * @param {string} why
 * @returns {Promise<boolean>} Whether the key was changed.
 */
export function openKeyDialog(why) {
  return new Promise((resolve) => {
    const input = el("input", { type: "password", id: "key-input", autocomplete: "off", spellcheck: "false", required: true });
    const onDevice = el("input", { type: "checkbox", id: "key-on-device" });
    const heading = newId("dialog");
    let isChanged = false;
    const close = (changed) => {
      isChanged = changed;
      dialog.close();
    };
    const form = el(
      "form",
      {
        onsubmit: (event) => {
          event.preventDefault();
          keepKey(input.value.trim(), onDevice.checked);
          close(true);
        },
      },
      el("h2", { id: heading }, "API key"),
      el("p", {}, why),
      el("label", { for: "key-input" }, "Key"),
      input,
      el("p", { class: "check" }, onDevice, el("label", { for: "key-on-device" }, "Remember on this device")),
      el(
        "div",
        { class: "actions" },
        el("button", { type: "submit", class: "primary" }, "Use this key"),
        currentKey() !== null &&
          el("button", { type: "button", onclick: () => { forgetKey(); close(true); } }, "Forget the key"),
        el("button", { type: "button", class: "quiet", onclick: () => close(false) }, "Cancel"),
      ),
    );
    const dialog = el("dialog", { "aria-labelledby": heading }, form);
    dialog.addEventListener("close", () => {
      dialog.remove();
      resolve(isChanged);
    });
    document.body.append(dialog);
    dialog.showModal();
    input.focus();
  });
}
