// The page: controls in, drawings out.

import { ask, draw, picture as tokensOf } from "./drawing.js";
import { Picture, paint } from "./picture.js";

const at = (id) => document.getElementById(id);
const model = await (await ask("model.json")).json();
const length = model.side ** 2;

/** Says how things stand, to screen readers too. */
function say(text, problem = false) {
  at("status").textContent = text;
  at("status").classList.toggle("problem", problem);
}

// ---- The picture ----

const picture = new Picture(at("picture"), model, pictureChanged, say);
// Screen readers leave a mask's arrow keys to the page.
if (picture.bert) at("picture").setAttribute("role", "application");
if (model.order !== "raster") document.body.classList.add(model.order === "columns" ? "columns" : "pixels");
let example = 0;
at("example").hidden = model.examples === 0;

function pictureChanged() {
  const steps = picture.kept / picture.step;
  at("edge").max = picture.tokens.length ? length / picture.step - 1 : 0;
  at("edge").value = steps;
  at("edge").disabled = !picture.tokens.length;
  at("edge-value").textContent = `${Math.round(steps)} of ${length / picture.step}`;
  at("hidden-count").textContent = picture.missing;
  const what = picture.tokens.length ? `Picture of ${model.side} by ${model.side} pixels` : "No picture: all is drawn";
  at("picture").setAttribute("aria-label", `${what}; ${length - picture.missing} pixels are kept`);
}

/** Shows what `tokens` promises, or why not. */
async function load(tokens, name) {
  try {
    say(`Reading ${name} …`);
    picture.load(await tokens);
    say(`${name}: ready to draw.`);
  } catch (error) {
    say(error.message, true);
  }
}

const loadFile = (file) => file && load(tokensOf(file), file.name);
at("file").addEventListener("change", () => loadFile(at("file").files[0]));
at("example").addEventListener("click", () => {
  const tokens = ask(`example.json?${example}`).then((response) => response.json()).then((found) => found.tokens);
  load(tokens, `Test image ${example}`);
  example = (example + 1) % model.examples;
});
at("nothing").addEventListener("click", () => load([], "Nothing"));
at("edge").addEventListener("input", () => picture.keepSteps(Number(at("edge").value)));
at("picture").addEventListener("focus", () => picture.show());
at("picture").addEventListener("blur", () => picture.show());
for (const button of document.querySelectorAll("[data-mask]")) {
  button.addEventListener("click", () => picture.preset(button.dataset.mask));
}

// A picture that is dropped anywhere is taken; without this the browser would leave the page to show it.
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    at("drop").classList.toggle("over", kind === "dragenter" || kind === "dragover");
    if (kind === "drop") loadFile(event.dataTransfer.files[0]);
  });
}

// ---- The drawing ----

let abort = null;
let drawnSeed = 0;

/** What the controls say; nothing where the browser finds fault with them. */
function wanted() {
  if (!at("settings").reportValidity()) return null;
  const number = (id) => (at(id).value === "" ? null : Number(at(id).value));
  const given = picture.tokens.length > 0;
  const kept = picture.bert ? { mask: Array.from(picture.mask).join("") } : { kept: picture.kept };
  return {
    count: number("count"),
    temperature: number("temperature"),
    top_k: number("top-k"),
    top_p: number("top-p"),
    seed: number("seed"),
    ...(given ? { tokens: picture.tokens, ...kept } : {}),
  };
}

/** Puts `count` empty completions into the grid; what is kept of the picture is there from the start. */
function grid(count) {
  const cells = Array.from({ length: count }, (_, index) => {
    const cell = document.createElement("li");
    const canvas = document.createElement("canvas");
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", `Completion ${index + 1} of ${count}, being drawn`);
    paint(canvas, model, picture.tokens, (pixel) => picture.keeps(pixel));
    cell.append(canvas);
    return { cell, canvas, context: canvas.getContext("2d") };
  });
  // What the links of the last drawing lead to is no longer needed.
  for (const link of at("completions").querySelectorAll("a")) URL.revokeObjectURL(link.href);
  at("completions").replaceChildren(...cells.map(({ cell }) => cell));
  return cells;
}

function drawPixel(cells, { pixel, tokens }) {
  cells.forEach(({ context }, index) => {
    const [red, green, blue] = model.palette[tokens[index]] ?? [0, 0, 0];
    context.fillStyle = `rgb(${red}, ${green}, ${blue})`;
    context.fillRect(pixel % model.side, Math.floor(pixel / model.side), 1, 1);
  });
}

/** Takes events until the last one; returns the seconds that the drawing took. */
async function follow(request, cells) {
  const missing = picture.missing;
  const drawn = new Set();
  const kept = Array.from({ length }, (_, pixel) => picture.keeps(pixel));
  for await (const event of draw(request, abort.signal)) {
    if (event.event === "waiting") say(`Waiting: ${event.ahead} ahead.`);
    if (event.event === "drawing") say(`Drawing ${missing} pixels of ${cells.length} …`);
    if (event.event === "failed") throw new Error(event.message);
    if (event.event === "done") return event.seconds;
    if (event.event === "pixel" && !kept[event.pixel]) {
      drawPixel(cells, event);
      drawn.add(event.pixel);
      at("progress").value = drawn.size / missing;
    }
  }
  return 0;
}

async function start(event) {
  event.preventDefault();
  const request = wanted();
  if (!request || abort) return;
  abort = new AbortController();
  drawing(true);
  at("progress").value = 0;
  const cells = grid(request.count);
  try {
    const seconds = await follow(request, cells);
    cells.forEach(({ cell, canvas }, index) => finish(cell, canvas, index, request));
    drawnSeed = request.seed;
    at("save").disabled = false;
    say(`Done: ${cells.length} completion${cells.length === 1 ? "" : "s"} in ${seconds.toFixed(1)} s, seed ${request.seed}.`);
  } catch (error) {
    if (error.name === "AbortError") say("Stopped.");
    else say(error.message, true);
  }
  abort = null;
  drawing(false);
}

/** Which buttons can be pressed. The keyboard's focus goes along, since a disabled button has none. */
function drawing(goesOn) {
  const [from, to] = goesOn ? [at("draw"), at("stop")] : [at("stop"), at("draw")];
  const focused = document.activeElement === from;
  from.disabled = true;
  to.disabled = false;
  if (goesOn) at("save").disabled = true;
  if (focused) to.focus();
}

at("settings").addEventListener("submit", start);
at("stop").addEventListener("click", () => abort?.abort());
at("again").addEventListener("click", () => {
  at("seed").value = Math.floor(Math.random() * 1e6);
  at("settings").requestSubmit();
});

// ---- Downloads ----

/** A link to what a canvas shows. */
function download(canvas, name, then) {
  canvas.toBlob((blob) => {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(blob);
    link.download = name;
    then(link);
  }, "image/png");
}

function finish(cell, canvas, index, { count, seed }) {
  canvas.setAttribute("aria-label", `Completion ${index + 1} of ${count}`);
  download(canvas, `completion-${index + 1}-seed-${seed}.png`, (link) => {
    link.textContent = `Download ${index + 1}`;
    cell.append(link);
  });
}

// All of them side by side, every pixel eight wide.
at("save").addEventListener("click", () => {
  const cells = [...document.querySelectorAll("#completions canvas")];
  const columns = Math.ceil(Math.sqrt(cells.length));
  const [size, gap] = [model.side * 8, 8];
  const sheet = document.createElement("canvas");
  sheet.width = columns * (size + gap) + gap;
  sheet.height = Math.ceil(cells.length / columns) * (size + gap) + gap;
  const context = sheet.getContext("2d");
  context.imageSmoothingEnabled = false;
  context.fillStyle = "#18181c";
  context.fillRect(0, 0, sheet.width, sheet.height);
  cells.forEach((cell, index) => {
    const [x, y] = [index % columns, Math.floor(index / columns)];
    context.drawImage(cell, x * (size + gap) + gap, y * (size + gap) + gap, size, size);
  });
  download(sheet, `completions-seed-${drawnSeed}.png`, (link) => link.click());
});

pictureChanged();
document.documentElement.dataset.ready = "yes";
