/** The page: which view the address names, and the frame around it. */

import { el } from "./dom.js";
import { heading } from "./heading.js";
import { askAgain, openKeyDialog } from "./key-dialog.js";
import { currentKey } from "./key.js";
import { errorNotice, waiting } from "./notice.js";
import { readHash } from "./place.js";

const VIEWS = {
  search: () => import("./views/search.js"),
  jobs: () => import("./views/jobs.js"),
  "jobs/new": () => import("./views/new-job.js"),
  "jobs/:id": () => import("./views/job.js"),
  datasets: () => import("./views/datasets.js"),
  "datasets/:id": () => import("./views/dataset.js"),
  models: () => import("./views/models.js"),
  "models/:id": () => import("./views/model.js"),
  collections: () => import("./views/collections.js"),
  "collections/:id": () => import("./views/collection.js"),
};

const THINGS = { jobs: "job", datasets: "data set", models: "model", collections: "collection" };

const main = document.getElementById("main");
let shown = null;

/** Show the view that the address names; what the one before still waits for is given up. */
async function show(takesFocus) {
  shown?.abort();
  shown = new AbortController();
  const { signal } = shown;
  const { path, query } = readHash(location.hash);
  const [section, id] = path.split("/");
  const load = VIEWS[path] ?? (id && VIEWS[`${section}/:id`]);
  const root = el("div", { class: "view" }, waiting("the view"));
  main.replaceChildren(root);
  for (const item of document.querySelectorAll("nav a")) {
    if (item.hash === `#/${section}`) item.setAttribute("aria-current", "page");
    else item.removeAttribute("aria-current");
  }
  askAgain();
  try {
    if (!load) throw new Error(`There is no view “${path}” on this page.`);
    const view = await load();
    if (!signal.aborted) await view.show({ root, path, id: id && decodeURIComponent(id), query, signal, takesFocus });
  } catch (error) {
    const isNoId = id && error.status === 422; // the service says which ids there can be, as a pattern
    const told = isNoId ? new Error(`There is no ${THINGS[section]} “${decodeURIComponent(id)}”.`) : error;
    if (!signal.aborted) root.replaceChildren(heading({ takesFocus }, "This can't be shown"), errorNotice(told));
  }
}

function showKeyButton() {
  document.getElementById("key").textContent = currentKey() === null ? "Key" : "Key set";
}

document.getElementById("skip").addEventListener("click", (event) => {
  event.preventDefault(); // the address is the view's
  main.focus();
});
document.getElementById("key").addEventListener("click", async () => {
  const why = "It is sent with every request. A service without keys takes none.";
  if (await openKeyDialog(why)) show(false);
});
document.addEventListener("close", showKeyButton, { capture: true }); // of any dialog: a request may have asked
addEventListener("hashchange", () => {
  scrollTo(0, 0);
  show(true);
});
// A file that misses its target would replace the page.
for (const name of ["dragover", "drop"]) addEventListener(name, (event) => event.preventDefault());

showKeyButton();
show(false);
