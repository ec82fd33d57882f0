/** Where the page is: `#/jobs/job_1?view=log`. Every state that can be shared is in the address. */

/**
 * @typedef {Object} Place A view's part of the page, and what the address says of it.
 * @property {HTMLElement} root
 * @property {string} path Such as `jobs/job_1`.
 * @property {string} [id] The last part of the path, where the view is of one thing.
 * @property {URLSearchParams} query
 * @property {AbortSignal} signal Aborted when the view is left.
 * @property {boolean} takesFocus Its heading takes the focus: the user came by a link.
 */

/** @param {string} hash @returns {{path: string, query: URLSearchParams}} */
export function readHash(hash) {
  const [path, query = ""] = hash.replace(/^#\/?/, "").split("?", 2);
  return { path: path || "search", query: new URLSearchParams(query) };
}

/**
 * The address of a view.
 * @param {string} path
 * @param {Object<string, any>} [query] A list is repeated; null, undefined and "" are left out.
 */
export function link(path, query = {}) {
  const parameters = new URLSearchParams();
  for (const [name, value] of Object.entries(query)) {
    for (const one of [value].flat()) if (one !== null && one !== undefined && one !== "") parameters.append(name, one);
  }
  const text = parameters.toString();
  return `#/${path}${text ? `?${text}` : ""}`;
}

/** Go to a view. */
export function go(path, query = {}) {
  location.hash = link(path, query);
}

/** Put a view's new state in the address, for links and the back button, without making the view anew. */
export function remember(path, query = {}) {
  if (link(path, query) !== location.hash) history.pushState(null, "", link(path, query));
}
