/** Which part of the map is seen: points in [0, 1] on a canvas. */

const MARGIN = 24; // pixels around the whole map
const MAX_ZOOM = 60;

export class Viewport {
  constructor() {
    this.reset();
    this.resize(1, 1);
  }

  /** Show everything. */
  reset() {
    [this.zoom, this.x, this.y] = [1, 0.5, 0.5]; // the place in the middle
  }

  resize(width, height) {
    [this.width, this.height] = [width, height];
  }

  /** Pixels that the map's side takes. */
  get scale() {
    return Math.max(1, Math.min(this.width, this.height) - 2 * MARGIN) * this.zoom;
  }

  toPixels(x, y) {
    return [this.width / 2 + (x - this.x) * this.scale, this.height / 2 - (y - this.y) * this.scale];
  }

  toMap(left, top) {
    return [this.x + (left - this.width / 2) / this.scale, this.y - (top - this.height / 2) / this.scale];
  }

  pan(dx, dy) {
    this.x = clamp(this.x - dx / this.scale);
    this.y = clamp(this.y + dy / this.scale);
  }

  /** Zoom by a factor, with the place under a pixel staying there. */
  zoomAt(left, top, factor) {
    const [x, y] = this.toMap(left, top);
    this.zoom = Math.min(MAX_ZOOM, Math.max(1, this.zoom * factor));
    const [after, below] = this.toMap(left, top);
    this.x = clamp(this.x + x - after);
    this.y = clamp(this.y + y - below);
  }
}

function clamp(value) {
  return Math.min(1, Math.max(0, value));
}
