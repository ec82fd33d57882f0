/** Having a model serve. */

import { announce } from "./announce.js";
import { send } from "./api.js";
import { el } from "./dom.js";
import { during } from "./notice.js";
import { link } from "./place.js";

/**
 * A button that puts a model into production.
 * @param {string} modelId
 * @param {HTMLElement} said Where it says what came of it.
 * @param {() => Promise<any>} onPromoted
 * @param {AbortSignal} signal
 */
export function promoteButton(modelId, said, onPromoted, signal) {
  const button = el("button", { type: "button", onclick: () => during(button, said, async () => {
    const moved = await send("PUT", "/v1/aliases/production", { model_id: modelId }, { signal });
    await onPromoted();
    const index = moved.index_job_id;
    const note = index ? ["It serves. Stored images are found by it once they are indexed: ", el("a", { href: link(`jobs/${index}`) }, "see the job"), "."] : ["It serves."];
    said.replaceChildren(el("div", { class: "notice done" }, el("p", {}, ...note)));
    announce("The model is in production");
  }) }, "Promote");
  button.setAttribute("aria-label", `Promote ${modelId} to production`);
  return button;
}
