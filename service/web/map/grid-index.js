/** Which point is near: a grid of cells over the map, so that a move of the pointer looks at a few points only. */

const CELLS = 64; // a side

export class GridIndex {
  /** @param {Float32Array} xs In [0, 1]. @param {Float32Array} ys */
  constructor(xs, ys) {
    this.xs = xs;
    this.ys = ys;
    this.cells = new Map();
    for (let i = 0; i < xs.length; i += 1) {
      const cell = cellOf(xs[i]) * CELLS + cellOf(ys[i]);
      if (!this.cells.has(cell)) this.cells.set(cell, []);
      this.cells.get(cell).push(i);
    }
  }

  /**
   * The point nearest to a place, of those that are within `radius` and `isShown`.
   * @returns {number} -1 if there is none.
   */
  nearest(x, y, radius, isShown) {
    let [best, least] = [-1, radius * radius];
    for (let column = cellOf(x - radius); column <= cellOf(x + radius); column += 1) {
      for (let row = cellOf(y - radius); row <= cellOf(y + radius); row += 1) {
        for (const i of this.cells.get(column * CELLS + row) ?? []) {
          const distance = (this.xs[i] - x) ** 2 + (this.ys[i] - y) ** 2;
          if (distance <= least && isShown(i)) [best, least] = [i, distance];
        }
      }
    }
    return best;
  }
}

function cellOf(value) {
  return Math.min(CELLS - 1, Math.max(0, Math.floor(value * CELLS)));
}
