// The picture as the model sees it, and what of it is kept: up to an edge, or by a mask.

const UNSEEN = [64, 64, 72];

/** Paints `tokens` on a canvas, a pixel each; those that `known` does not know stay grey. */
export function paint(canvas, model, tokens, known = () => true) {
  const { side, palette } = model;
  canvas.width = canvas.height = side;
  const context = canvas.getContext("2d");
  const image = context.createImageData(side, side);
  for (let pixel = 0; pixel < side * side; pixel += 1) {
    const colour = tokens.length && known(pixel) ? palette[tokens[pixel]] : UNSEEN;
    image.data.set([...colour, 255], 4 * pixel);
  }
  context.putImageData(image, 0, 0);
}

export class Picture {
  /** `changed` is called whenever the picture or what is kept of it has changed, `told` with where the keyboard's cursor is. */
  constructor(canvas, model, changed, told) {
    Object.assign(this, { canvas, model, changed, told, tokens: [], kept: 0, cursor: 0 });
    this.length = model.side ** 2;
    // Canvas pixels per pixel of the picture: enough for a sharp edge.
    this.scale = Math.max(8, Math.round(384 / model.side));
    this.mask = new Uint8Array(this.length);
    this.bert = model.objective === "bert";
    // Where in the model's order each pixel stands.
    this.position = new Uint32Array(this.length);
    for (let at = 0; at < this.length; at += 1) this.position[model.pixels ? model.pixels[at] : at] = at;
    // What the edge moves by.
    this.step = model.order === "raster" || model.order === "columns" ? model.side : 1;
    canvas.addEventListener("pointerdown", (event) => this.press(event));
    canvas.addEventListener("pointermove", (event) => event.buttons === 1 && this.drag(event));
    canvas.addEventListener("keydown", (event) => this.key(event));
    this.show();
  }

  /** Takes a picture; none is an empty one, of which all is drawn. */
  load(tokens) {
    this.tokens = tokens;
    if (this.bert) this.preset("lower");
    else this.keep(tokens.length ? this.model.prompt : 0);
  }

  /** Whether a pixel is kept. */
  keeps(pixel) {
    if (!this.tokens.length) return false;
    return this.bert ? !this.mask[pixel] : this.position[pixel] < this.kept;
  }

  /** Pixels that are drawn. */
  get missing() {
    if (!this.tokens.length) return this.length;
    return this.bert ? this.mask.reduce((sum, hidden) => sum + hidden, 0) : this.length - this.kept;
  }

  /** Keeps the first so many pixels of the model's order; one step at least is drawn. */
  keep(positions) {
    const most = this.tokens.length ? this.length - this.step : 0;
    this.kept = Math.max(0, Math.min(most, positions));
    this.update();
  }

  /** A mask by its name. */
  preset(name) {
    const side = this.model.side;
    const hides = {
      lower: (x, y) => y >= side / 2,
      right: (x) => x >= side / 2,
      middle: (x, y) => Math.min(x, y) >= side / 4 && Math.max(x, y) < (3 * side) / 4,
      scattered: (x, y) => (3 * x + y * 2) % 7 === 0,
      invert: (x, y) => !this.mask[y * side + x],
      none: () => false,
    }[name];
    this.mask = this.mask.map((_, pixel) => (hides(pixel % side, Math.floor(pixel / side)) ? 1 : 0));
    this.update();
  }

  update() {
    this.show();
    this.changed();
  }

  /** Draws the picture: what is kept in full, what is not under a veil, and the edge between them. */
  show() {
    const { canvas, model, length, scale } = this;
    const side = model.side;
    const small = document.createElement("canvas");
    paint(small, model, this.tokens);
    canvas.width = canvas.height = side * scale;
    const context = canvas.getContext("2d");
    context.imageSmoothingEnabled = false;
    context.drawImage(small, 0, 0, canvas.width, canvas.height);
    context.fillStyle = "rgba(24, 24, 28, 0.72)";
    for (let pixel = 0; pixel < length; pixel += 1) {
      if (this.tokens.length && !this.keeps(pixel)) {
        context.fillRect((pixel % side) * scale, Math.floor(pixel / side) * scale, scale, scale);
      }
    }
    this.outline(context);
  }

  /** The edge, light on dark so that it shows on any picture, and the keyboard's cursor. */
  outline(context) {
    const { scale, model: { side } } = this;
    const differs = (a, b) => this.keeps(a) !== this.keeps(b);
    for (const [colour, thick] of [["#000000", 2], ["#ffffff", 1]]) {
      context.fillStyle = colour;
      const line = (x, y, width, height) =>
        context.fillRect(x * scale - thick, y * scale - thick, width * scale + 2 * thick, height * scale + 2 * thick);
      for (let pixel = 0; pixel < this.length; pixel += 1) {
        const [x, y] = [pixel % side, Math.floor(pixel / side)];
        if (x + 1 < side && differs(pixel, pixel + 1)) line(x + 1, y, 0, 1);
        if (y + 1 < side && differs(pixel, pixel + side)) line(x, y + 1, 1, 0);
      }
    }
    if (this.bert && document.activeElement === this.canvas) {
      context.strokeStyle = "#ffd33d";
      context.lineWidth = 3;
      context.strokeRect((this.cursor % side) * scale, Math.floor(this.cursor / side) * scale, scale, scale);
    }
  }

  /** The pixel under the pointer, or the nearest one. */
  under(event) {
    const box = this.canvas.getBoundingClientRect();
    const along = (at, from, size) => Math.max(0, Math.min(this.model.side - 1, Math.floor(((at - from) / size) * this.model.side)));
    return [along(event.clientX, box.left, box.width), along(event.clientY, box.top, box.height)];
  }

  press(event) {
    // A drag that leaves the canvas goes on.
    this.canvas.setPointerCapture(event.pointerId);
    this.drag(event);
  }

  drag(event) {
    if (!this.tokens.length) return;
    const [x, y] = this.under(event);
    const pixel = y * this.model.side + x;
    if (this.bert) {
      this.cursor = pixel;
      this.brush(pixel);
      return;
    }
    // The edge goes to where the pointer is: above a row's middle before it, below it behind it.
    const box = this.canvas.getBoundingClientRect();
    if (this.model.order === "raster") this.keepSteps(((event.clientY - box.top) / box.height) * this.model.side);
    else if (this.model.order === "columns") this.keepSteps(((event.clientX - box.left) / box.width) * this.model.side);
    else this.keep(this.position[pixel] + 1);
  }

  keepSteps(steps) {
    this.keep(Math.round(steps) * this.step);
  }

  brush(pixel) {
    const hide = document.querySelector("input[name=brush]:checked").value === "hide";
    if (this.mask[pixel] === Number(hide)) return;
    this.mask[pixel] = Number(hide);
    this.update();
  }

  /** Arrows move the edge, or the cursor of a mask, which Space paints. */
  key(event) {
    const side = this.model.side;
    const by = { ArrowUp: [0, -1], ArrowDown: [0, 1], ArrowLeft: [-1, 0], ArrowRight: [1, 0] }[event.key];
    if (!this.tokens.length || !(by || (this.bert && event.key === " "))) return;
    event.preventDefault();
    if (!by) {
      this.mask[this.cursor] = 1 - this.mask[this.cursor];
    } else if (!this.bert) {
      this.keep(this.kept + (by[0] + by[1]) * this.step);
      return;
    } else {
      const inside = (at) => Math.max(0, Math.min(side - 1, at));
      this.cursor = inside(Math.floor(this.cursor / side) + by[1]) * side + inside((this.cursor % side) + by[0]);
    }
    this.update();
    const [row, column] = [Math.floor(this.cursor / side) + 1, (this.cursor % side) + 1];
    this.told(`Row ${row}, column ${column}: ${this.keeps(this.cursor) ? "kept" : "guessed"}.`);
  }
}
