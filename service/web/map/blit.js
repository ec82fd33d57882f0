/**
 * Stamps copied pixel by pixel. A browser without a GPU is several times as slow with as many `drawImage`, and misses
 * frames with ten thousand.
 */

/** @typedef {{side: number, pixels: Uint32Array}} Stamp Colours of a square, as ImageData has them. */

/**
 * The pixels of a drawn mark.
 * @param {HTMLCanvasElement} canvas A square.
 * @param {number} opacity 0 to 1.
 * @returns {Stamp}
 */
export function pixelsOf(canvas, opacity) {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  for (let i = 3; i < data.length; i += 4) data[i] = Math.round(data[i] * opacity);
  return { side: canvas.width, pixels: new Uint32Array(data.buffer) };
}

/**
 * Copy a stamp to where its middle is at a pixel. The edge of one, which is half transparent, leaves another's inside.
 * @param {Uint32Array} out The image.
 * @param {number} width @param {number} height
 * @param {Stamp} stamp
 * @param {number} left @param {number} top
 */
export function blit(out, width, height, { side, pixels }, left, top) {
  const [x, y] = [Math.round(left - side / 2), Math.round(top - side / 2)];
  const [from, to] = [Math.max(0, -x), Math.min(side, width - x)];
  for (let row = Math.max(0, -y); row < Math.min(side, height - y); row += 1) {
    for (let column = from; column < to; column += 1) {
      const colour = pixels[row * side + column];
      const at = (y + row) * width + x + column;
      if (colour >>> 24 >= out[at] >>> 24 && colour >>> 24 > 0) out[at] = colour;
    }
  }
}
