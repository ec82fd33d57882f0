/** Searches as people make them: by an image of theirs or a stored one, then "like this" and "not like this". */

import { get, send } from "./api.js";

/**
 * @typedef {Object} Wish
 * @property {File|null} file An image that is not stored.
 * @property {string[]} like Stored images that the results should be like.
 * @property {string[]} unlike
 * @property {{collection: string, k: number, min_score: number, filter?: Object}} options
 */

/** The filter of a label; none for "". */
export function labelFilter(label) {
  return label ? { op: "equals", field: "label", value: label } : undefined;
}

/**
 * @param {Wish} wish
 * @param {AbortSignal} signal
 * @returns {Promise<{id: string, score: number, label: string|null, filename: string|null}[]>} Best first.
 */
export async function findSimilar({ file, like, unlike, options }, signal) {
  if (!file) return (await send("POST", "/v1/search", { ...options, positive: like, negative: unlike }, { signal })).items;
  if (like.length + unlike.length === 0) return (await send("POST", "/v1/search", searchForm(file, options), { signal })).items;
  return byVector(file, like, unlike, options, signal);
}

function searchForm(file, { filter, ...options }) {
  const form = new FormData();
  form.append("file", file);
  for (const [name, value] of Object.entries(options)) form.append(name, value);
  if (filter) form.append("filter", JSON.stringify(filter));
  return form;
}

/** The API's `positive` takes stored images; with one that isn't, its sum is made here (service/search.py). */
async function byVector(file, like, unlike, options, signal) {
  const form = new FormData();
  form.append("files", file);
  const [embedded, ...stored] = await Promise.all([
    send("POST", "/v1/embeddings", form, { signal }),
    ...[...like, ...unlike].map((id) => get(`/v1/images/${id}/embedding`, { normalize: true }, signal)),
  ]);
  const liked = [unit(embedded.data[0].embedding), ...stored.slice(0, like.length).map(({ embedding }) => embedding)];
  const disliked = stored.slice(like.length).map(({ embedding }) => embedding);
  const toward = mean(liked);
  const away = disliked.length > 0 ? mean(disliked) : toward;
  const vector = toward.map((value, i) => 2 * value - away[i]);
  const examples = new Set([...like, ...unlike]);
  const k = options.k + examples.size; // the examples themselves are left out
  const { items } = await send("POST", "/v1/search", { ...options, k, vector }, { signal });
  return items.filter(({ id }) => !examples.has(id)).slice(0, options.k);
}

function unit(vector) {
  const length = Math.hypot(...vector);
  return vector.map((value) => value / length);
}

function mean(vectors) {
  return vectors[0].map((_, i) => vectors.reduce((sum, vector) => sum + vector[i], 0) / vectors.length);
}

/**
 * Results with near-duplicates folded: each under the best one before it that it is nearly.
 * @param {{id: string}[]} items Best first.
 * @param {number} threshold Least cosine of near-duplicates; 1 folds none.
 * @param {{collection: string, filter?: Object}} options
 * @param {AbortSignal} signal
 * @returns {Promise<Array<{id: string}[]>>} Groups, in the order of their first.
 */
export async function foldDuplicates(items, threshold, { collection, filter }, signal) {
  if (threshold >= 1 || items.length < 2) return items.map((item) => [item]);
  const queries = items.map(({ id }) => ({ image_id: id }));
  const batch = { queries, collection, filter, k: items.length, min_score: threshold };
  const { results } = await send("POST", "/v1/search", batch, { signal });
  const twins = results.map((result) => new Set(result.items.map(({ id }) => id)));
  const groups = new Map(); // by the position of the first
  items.forEach((item, i) => {
    const first = [...groups.keys()].find((position) => twins[position].has(item.id));
    if (first === undefined) groups.set(i, [item]);
    else groups.get(first).push(item);
  });
  return [...groups.values()];
}
