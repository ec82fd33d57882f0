/** Which points a line around them holds. */

/**
 * Whether a point is in a polygon (even-odd).
 * @param {number} x @param {number} y
 * @param {Array<[number, number]>} polygon
 */
export function isInside(x, y, polygon) {
  let inside = false;
  for (let i = 0, j = polygon.length - 1; i < polygon.length; j = i, i += 1) {
    const [[x1, y1], [x2, y2]] = [polygon[i], polygon[j]];
    if (y1 > y !== y2 > y && x < ((x2 - x1) * (y - y1)) / (y2 - y1) + x1) inside = !inside;
  }
  return inside;
}
