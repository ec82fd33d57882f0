/** Where files are dropped, chosen, or pasted. */

import { el } from "./dom.js";

/**
 * @param {{label: string, hint: string, accept: string, isMultiple?: boolean, onFiles: (files: File[]) => void}} options
 * @returns {HTMLElement} A label around the input: a click anywhere, or Enter, chooses.
 */
export function dropArea({ label, hint, accept, isMultiple = false, onFiles }) {
  const input = el("input", { type: "file", class: "unseen", accept, multiple: isMultiple });
  input.addEventListener("change", () => {
    if (input.files.length > 0) onFiles([...input.files]);
    input.value = ""; // the same file may be chosen again
  });
  const area = el("label", { class: "drop" }, input, el("strong", {}, label), el("span", {}, hint));
  area.addEventListener("dragover", (event) => {
    event.preventDefault();
    area.classList.add("over");
  });
  area.addEventListener("dragleave", () => area.classList.remove("over"));
  area.addEventListener("drop", (event) => {
    event.preventDefault();
    area.classList.remove("over");
    const files = [...event.dataTransfer.files];
    if (files.length > 0) onFiles(isMultiple ? files : files.slice(0, 1));
  });
  return area;
}

/**
 * Files that are pasted anywhere on the page.
 * @param {AbortSignal} signal
 * @param {(files: File[]) => void} onFiles
 */
export function onPaste(signal, onFiles) {
  const listen = (event) => {
    const files = [...event.clipboardData.files].filter((file) => file.type.startsWith("image/"));
    if (files.length > 0) onFiles(files);
  };
  document.addEventListener("paste", listen, { signal });
}
