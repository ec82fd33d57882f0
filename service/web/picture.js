/** Stored images. <img> can't send a key: with one, the bytes are fetched and shown as a blob. */

import { call } from "./api.js";
import { el } from "./dom.js";
import { currentKey } from "./key.js";

const paths = new WeakMap();
const observer = new IntersectionObserver(
  (entries) => {
    for (const { isIntersecting, target } of entries) {
      if (!isIntersecting) continue;
      observer.unobserve(target);
      showBlob(target, paths.get(target));
    }
  },
  { rootMargin: "200px" },
);

/**
 * A stored image, loaded when it comes near.
 * @param {string} id
 * @param {number} size Of its longer side, pixels.
 * @param {string} alt
 * @returns {HTMLImageElement}
 */
export function picture(id, size, alt) {
  return protectedImage(`/v1/images/${id}/content?size=${size}`, { alt, class: "picture" });
}

/** An image at a path that may need a key. */
export function protectedImage(path, attributes) {
  const image = el("img", { loading: "lazy", decoding: "async", ...attributes });
  image.addEventListener("error", () => image.classList.add("broken"));
  if (currentKey() === null) {
    image.src = path;
  } else {
    paths.set(image, path);
    observer.observe(image);
  }
  return image;
}

async function showBlob(image, path) {
  let blob;
  try {
    blob = await (await call(path)).blob();
  } catch {
    image.classList.add("broken"); // its text stays
    return;
  }
  const url = URL.createObjectURL(blob);
  const revoke = () => URL.revokeObjectURL(url); // what is decoded stays
  image.addEventListener("load", revoke, { once: true });
  image.addEventListener("error", revoke, { once: true });
  image.src = url;
}

/**
 * What to call an image.
 * @param {{id: string, label?: string|null, filename?: string|null}} image
 */
export function nameOf({ id, label, filename }) {
  return [label, filename].filter(Boolean).join(", ") || `image ${id.slice(0, 8)}`;
}
