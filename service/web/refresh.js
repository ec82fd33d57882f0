/** Looking again now and then. */

/** @param {number} milliseconds @param {AbortSignal} signal Ends the pause. */
export function pause(milliseconds, signal) {
  return new Promise((resolve) => {
    const timer = setTimeout(resolve, milliseconds);
    signal.addEventListener("abort", () => { clearTimeout(timer); resolve(); }, { once: true });
  });
}

/**
 * Wait until the page is seen.
 * @param {AbortSignal} signal Ends the wait.
 * @returns {Promise<AbortSignal>} Aborted when the page is hidden, or with `signal`.
 */
export async function whileSeen(signal) {
  const change = () => new Promise((resolve) => {
    document.addEventListener("visibilitychange", resolve, { once: true, signal });
    signal.addEventListener("abort", resolve, { once: true });
  });
  while (document.hidden && !signal.aborted) await change();
  const hidden = new AbortController();
  change().then(() => hidden.abort());
  return AbortSignal.any([hidden.signal, signal]);
}

/**
 * Call `look` every so often while the page is seen, until it answers false, fails, or the view is left.
 * @param {number} milliseconds
 * @param {AbortSignal} signal
 * @param {() => Promise<boolean>} look Whether to go on.
 * @param {(error: Error) => void} fail Told why it doesn't go on.
 */
export async function keepLooking(milliseconds, signal, look, fail) {
  let goesOn = true;
  while (goesOn) {
    await pause(milliseconds, signal);
    if (signal.aborted) return;
    try {
      if (!document.hidden) goesOn = await look();
    } catch (error) {
      if (!signal.aborted) fail(error);
      return;
    }
  }
}
