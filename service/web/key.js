/** The API key: kept for this tab, or on this device. */

const NAME = "simclr-key";

/** @returns {string|null} */
export function currentKey() {
  return sessionStorage.getItem(NAME) ?? localStorage.getItem(NAME);
}

/** @param {string} key @param {boolean} onDevice Also after the tab is closed. */
export function keepKey(key, onDevice) {
  forgetKey();
  (onDevice ? localStorage : sessionStorage).setItem(NAME, key);
}

export function forgetKey() {
  sessionStorage.removeItem(NAME);
  localStorage.removeItem(NAME);
}
