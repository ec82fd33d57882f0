/** What points look like: colours that the colour-blind tell apart (Okabe and Ito), and shapes when these run out. */

const LIGHT = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#56b4e9", "#b58900", "#7a5195", "#5c6370"];
const DARK = ["#5aa9e6", "#ff8f4d", "#2fc99b", "#e59ac8", "#9bd6ff", "#f0e442", "#b79be0", "#aab2bf"];
const SHAPES = [
  (to, r) => to.arc(0, 0, r, 0, 2 * Math.PI),
  (to, r) => to.rect(-0.85 * r, -0.85 * r, 1.7 * r, 1.7 * r),
  (to, r) => polygon(to, [[0, -1.15 * r], [1.05 * r, 0.8 * r], [-1.05 * r, 0.8 * r]]),
  (to, r) => polygon(to, [[0, -1.25 * r], [1.25 * r, 0], [0, 1.25 * r], [-1.25 * r, 0]]),
];

/** A mark for the i-th label; labels beyond 32 look like earlier ones. */
export function markOf(i, isDark) {
  const colours = isDark ? DARK : LIGHT;
  return { colour: colours[i % colours.length], shape: Math.floor(i / colours.length) % SHAPES.length };
}

/**
 * A mark, drawn once.
 * @param {{colour: string, shape: number}} mark
 * @param {number} radius CSS pixels.
 * @param {number} ratio Device pixels to a CSS pixel.
 * @param {string|null} ring Colour of a ring around it.
 * @returns {HTMLCanvasElement}
 */
export function stamp({ colour, shape }, radius, ratio, ring = null) {
  const side = Math.ceil(2 * (1.3 * radius + 2) * ratio);
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [side, side];
  const to = canvas.getContext("2d", { willReadFrequently: true }); // it is: its pixels are what is used
  to.translate(side / 2, side / 2);
  to.scale(ratio, ratio);
  to.beginPath();
  SHAPES[shape](to, radius);
  to.fillStyle = colour;
  to.fill();
  if (ring) {
    to.strokeStyle = ring;
    to.lineWidth = 1.5;
    to.stroke();
  }
  return canvas;
}

function polygon(to, corners) {
  corners.forEach(([x, y], i) => (i ? to.lineTo(x, y) : to.moveTo(x, y)));
  to.closePath();
}
