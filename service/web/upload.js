/** Uploads that tell how far they are: XMLHttpRequest does, fetch doesn't. */

import { authorization, hasOtherKey, problemOf, unreachable } from "./api.js";
import { currentKey } from "./key.js";

/**
 * POST a form.
 * @param {string} path
 * @param {FormData} form
 * @param {{signal: AbortSignal, onProgress: (share: number) => void}} options `share` of the bytes, 0 to 1.
 * @returns {Promise<any>} The JSON of the answer. Throws Problem, or AbortError.
 */
export async function upload(path, form, { signal, onProgress }) {
  for (;;) {
    const key = currentKey();
    const answer = await post(path, form, key, signal, onProgress);
    if (answer.status < 300) return answer.body;
    if (answer.status === 401 && (await hasOtherKey(key))) continue;
    throw problemOf(answer.status, answer.body);
  }
}

function post(path, form, key, signal, onProgress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    const stop = () => request.abort();
    signal.addEventListener("abort", stop);
    request.open("POST", path);
    request.responseType = "json";
    for (const [name, value] of Object.entries(authorization(key))) request.setRequestHeader(name, value);
    request.upload.onprogress = (event) => event.lengthComputable && onProgress(event.loaded / event.total);
    request.onload = () => resolve({ status: request.status, body: request.response });
    request.onerror = () => reject(unreachable());
    request.onabort = () => reject(new DOMException("cancelled", "AbortError"));
    request.onloadend = () => signal.removeEventListener("abort", stop);
    request.send(form);
  });
}
