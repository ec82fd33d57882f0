/** Requests to the service: with the key if there is one, and errors as the service tells them. */

import { askForKey } from "./key-dialog.js";
import { currentKey } from "./key.js";

/** An error that the service told (RFC 9457), or status 0 if it didn't answer. */
export class Problem extends Error {
  /** @param {number} status @param {string} code @param {string} detail @param {{field: string, message: string}[]} errors */
  constructor(status, code, detail, errors = []) {
    super(detail);
    this.status = status;
    this.code = code;
    this.errors = errors;
  }
}

/** The problem of a response's status and body (JSON, or anything if a proxy answered). */
export function problemOf(status, body) {
  return new Problem(status, body?.code ?? "unknown", body?.detail ?? `the service answered ${status}`, body?.errors ?? []);
}

export function unreachable() {
  return new Problem(0, "unreachable", "The service does not answer. See whether it runs, then try again.");
}

/** The headers that a key makes. */
export function authorization(key) {
  return key === null ? {} : { Authorization: `Bearer ${key}` };
}

/**
 * Whether a request that was refused with this key should be tried again: there is another key now.
 * @param {string|null} key The key that it was sent with.
 */
export async function hasOtherKey(key) {
  if (currentKey() !== key) return true;
  return askForKey(key === null ? "The service asks for an API key." : "The service does not take this key: it is wrong, revoked, or expired.");
}

/**
 * @param {string} path
 * @param {{method?: string, body?: BodyInit, headers?: Object<string, string>, signal?: AbortSignal}} [options]
 * @returns {Promise<Response>} A response that is ok. Throws Problem.
 */
export async function call(path, { method = "GET", body, headers = {}, signal } = {}) {
  for (;;) {
    const key = currentKey();
    let response;
    try {
      response = await fetch(path, { method, body, signal, headers: { ...headers, ...authorization(key) } });
    } catch (error) {
      throw error.name === "AbortError" ? error : unreachable();
    }
    if (response.ok) return response;
    if (response.status === 401 && (await hasOtherKey(key))) continue;
    throw problemOf(response.status, await response.json().catch(() => null));
  }
}

/**
 * A path with its query.
 * @param {string} path
 * @param {Object<string, any>} query Null, undefined and "" leave a parameter out.
 */
export function address(path, query) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const text = new URLSearchParams(given).toString();
  return text ? `${path}?${text}` : path;
}

/**
 * @param {string} path
 * @param {Object<string, any>} [query] As `address` takes it.
 * @param {AbortSignal} [signal]
 * @returns {Promise<any>} The JSON.
 */
export async function get(path, query = {}, signal = undefined) {
  return (await call(address(path, query), { signal })).json();
}

/**
 * @param {"POST"|"PUT"|"PATCH"|"DELETE"} method
 * @param {string} path
 * @param {any} [json] Sent as JSON, or as it is if it is a form.
 * @param {{signal?: AbortSignal, headers?: Object<string, string>}} [options]
 * @returns {Promise<any>} The JSON of the answer; null if it has none.
 */
export async function send(method, path, json = undefined, { signal, headers = {} } = {}) {
  const isForm = json instanceof FormData;
  const body = json === undefined || isForm ? json : JSON.stringify(json);
  const type = json === undefined || isForm ? {} : { "Content-Type": "application/json" };
  const response = await call(path, { method, body, headers: { ...type, ...headers }, signal });
  return response.status === 204 ? null : response.json();
}
