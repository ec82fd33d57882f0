/** What those who don't see the page are told. */

/** @param {string} text */
export function announce(text) {
  document.getElementById("announcer").textContent = text;
}
