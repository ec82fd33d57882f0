/** Search: by an image of one's own, a stored one, or examples. */

import { announce } from "../announce.js";
import { get } from "../api.js";
import { el } from "../dom.js";
import { dropArea, onPaste } from "../drop-area.js";
import { counted } from "../format.js";
import { heading } from "../heading.js";
import { emptyNotice, errorNotice, waiting } from "../notice.js";
import { nameOf, picture } from "../picture.js";
import { link, remember } from "../place.js";
import { resultGrid } from "../result-grid.js";
import { searchFilters } from "../search-filters.js";
import { findSimilar, foldDuplicates, labelFilter } from "../similar.js";

const IMAGES = "image/jpeg,image/png,image/webp";
const NUM_SUGGESTED = 24;

let dropped = null; // the image that was dropped: a file has no address

/** @param {import("../place.js").Place} place */
export async function show(place) {
  const [collections, aliases] = await Promise.all([
    get("/v1/collections", { limit: 1000 }, place.signal),
    get("/v1/aliases", { limit: 1000 }, place.signal),
  ]);
  const hasModel = aliases.items.some(({ name }) => name === "production");
  const filled = collections.items.filter(({ num_images: number }) => number > 0);
  place.root.replaceChildren(heading(place, "Search"));
  if (!hasModel) place.root.append(noModel());
  else if (filled.length === 0) place.root.append(noImages());
  else await new SearchView(place, filled).open();
}

function noModel() {
  return emptyNotice(
    "No model serves yet",
    "Search compares what a model sees in images. ",
    el("a", { href: link("datasets") }, "Upload a data set"),
    ", ",
    el("a", { href: link("jobs/new", { kind: "pretrain" }) }, "pretrain on it"),
    ", then promote the ",
    el("a", { href: link("models") }, "model"),
    " that comes of it. ",
    el("a", { href: link("jobs") }, "See the jobs"),
    ".",
  );
}

function noImages() {
  return emptyNotice("No images to search in", el("a", { href: link("collections") }, "Add images to a collection"), ", then search here.");
}

class SearchView {
  constructor(place, collections) {
    const { query } = place;
    this.place = place;
    this.collections = collections;
    const names = collections.map(({ name }) => name);
    const asked = collections.find(({ id, name }) => [id, name].includes(query.get("collection")));
    this.state = {
      image: query.get("image"),
      like: query.getAll("like"),
      unlike: query.getAll("unlike"),
      collection: asked?.name ?? (names.includes("default") ? "default" : names[0]),
      label: query.get("label") ?? "",
      min: query.get("min") ?? "",
      k: query.get("k") ?? "24",
      fold: query.get("fold") ?? "0.97",
    };
    if (this.state.image || this.state.like.length > 0) dropped = null; // the address asks for something else
    this.examples = el("div", { class: "examples" });
    this.results = el("section", { "aria-label": "Results", "aria-busy": "false" });
  }

  async open() {
    const take = ([file]) => {
      dropped = file;
      this.change({ image: null, like: [], unlike: [] });
    };
    onPaste(this.place.signal, take);
    this.place.root.append(
      dropArea({ label: "Drop an image", hint: "or choose a file, or paste one: JPEG, PNG, WebP", accept: IMAGES, onFiles: take }),
      this.examples,
      searchFilters(this.collections, this.state, (changed) => this.change(changed)),
      this.results,
    );
    await this.run();
  }

  change(changed) {
    this.state = { ...this.state, ...changed };
    remember("search", this.state);
    return this.run();
  }

  /** Show what the state asks for; an answer that a later one has overtaken is left out. */
  async run() {
    this.running?.abort();
    this.running = new AbortController();
    const signal = AbortSignal.any([this.running.signal, this.place.signal]);
    this.showExamples();
    this.results.setAttribute("aria-busy", "true");
    if (!this.results.hasChildNodes()) this.results.append(waiting("images"));
    try {
      const shown = this.isSearch() ? await this.find(signal) : await this.suggest(signal);
      if (!signal.aborted) this.results.replaceChildren(...shown);
    } catch (error) {
      if (!signal.aborted) this.results.replaceChildren(errorNotice(error));
    }
    if (!signal.aborted) this.results.setAttribute("aria-busy", "false");
  }

  isSearch() {
    return dropped !== null || this.state.image !== null || this.state.like.length > 0;
  }

  async find(signal) {
    const { image, like, unlike, collection, label, min, k, fold } = this.state;
    const options = { collection, k: Number(k), min_score: min === "" ? -1 : Number(min), filter: labelFilter(label) };
    const positive = image ? [image, ...like] : like;
    const items = await findSimilar({ file: dropped, like: positive, unlike, options }, signal);
    if (items.length === 0) {
      announce("Nothing found");
      return [emptyNotice("Nothing is that similar", "Lower the least score, or take the label away.")];
    }
    const groups = await foldDuplicates(items, Number(fold), options, signal);
    const num = `${counted(items.length, "image")}${groups.length < items.length ? `, ${items.length - groups.length} of them near-duplicates of others` : ""}`;
    announce(`${num} found, best score ${items[0].score.toFixed(3)}`);
    return [el("h2", {}, num), this.grid(groups)];
  }

  /** Without a question, images to start from. */
  async suggest(signal) {
    const { collection, label } = this.state;
    const filter = label ? JSON.stringify(labelFilter(label)) : null;
    const { items } = await get("/v1/images", { collection, limit: NUM_SUGGESTED, filter }, signal);
    if (items.length === 0) return [emptyNotice("No image has this label", "Choose another label or collection.")];
    return [el("h2", {}, "Or start from one of these"), this.grid(items.map((item) => [item]))];
  }

  grid(groups) {
    const { like, unlike, collection } = this.state;
    return resultGrid(groups, { like, unlike, collection, onExample: (id, side) => this.toggle(id, side) });
  }

  /** Make an image an example of one side, or none any more. The first example makes a search. */
  toggle(id, side) {
    const without = (ids) => ids.filter((one) => one !== id);
    const isChosen = this.state[side].includes(id);
    const changed = { like: without(this.state.like), unlike: without(this.state.unlike) };
    if (!isChosen) changed[side] = [...changed[side], id];
    if (!isChosen && side === "unlike" && !this.isSearch()) {
      announce("Choose something it should be like first");
      return;
    }
    this.change(changed);
    announce(isChosen ? "Example taken away" : side === "like" ? "More like this" : "Not like this");
  }

  showExamples() {
    const { image, like, unlike } = this.state;
    const groups = [
      ["Query", dropped || image ? [dropped ? this.ownImage() : this.example(image, () => this.change({ image: null }))] : []],
      ["More like", like.map((id) => this.example(id, () => this.toggle(id, "like")))],
      ["Not like", unlike.map((id) => this.example(id, () => this.toggle(id, "unlike")))],
    ];
    this.examples.replaceChildren(
      ...groups
        .filter(([, images]) => images.length > 0)
        .map(([name, images]) => el("div", { class: "example-group" }, el("h2", {}, name), el("ul", {}, ...images.map((one) => el("li", {}, one))))),
    );
  }

  ownImage() {
    const { name } = dropped;
    const url = URL.createObjectURL(dropped);
    const image = el("img", { src: url, alt: `The image you gave: ${name}` });
    image.addEventListener("load", () => URL.revokeObjectURL(url));
    image.addEventListener("error", () => {
      URL.revokeObjectURL(url);
      image.replaceWith(el("span", { class: "no-picture", title: name }, "No picture"));
    });
    const remove = () => {
      dropped = null;
      this.change({ unlike: this.state.like.length > 0 ? this.state.unlike : [] });
    };
    return [image, takeAway(`Take ${name} away`, remove)];
  }

  example(id, onRemove) {
    return [picture(id, 160, nameOf({ id })), takeAway(`Take image ${id.slice(0, 8)} away`, onRemove)];
  }
}

function takeAway(label, onclick) {
  return el("button", { type: "button", class: "remove", "aria-label": label, title: label, onclick }, "×");
}
