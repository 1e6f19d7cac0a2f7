// Unpacks the page's data of a picture when the picture is first shown.

const PAGE = JSON.parse(document.getElementById("data").textContent);
const KINDS = { u1: Uint8Array, u2: Uint16Array, i2: Int16Array, u4: Uint32Array, f4: Float32Array };
const WON = 0, TAKEN = 1, LOST = 2, IGNORED = 3;
const opened = new Map();

async function inflated(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Response(stream).arrayBuffer();
}

function arraysIn(block, places) {
  const found = {};
  for (const [name, [kind, first, count]] of Object.entries(places)) {
    found[name] = new KINDS[kind](block, first, count);
  }
  return found;
}

async function imageOf(jpeg) {
  const image = new Image();
  image.src = "data:image/jpeg;base64," + jpeg;
  await image.decode();
  return image;
}

// Gives a picture with its pixels and numbers. Unpacks each picture once.
function open(number) {
  if (!opened.has(number)) opened.set(number, openNow(PAGE.pictures[number]));
  return opened.get(number);
}

async function openNow(picture) {
  const [block, image] = await Promise.all([inflated(picture.block), imageOf(picture.jpeg)]);
  const views = picture.views.map((steps) => steps.map((view) => viewOf(block, view)));
  const colours = looksOf(picture.boxes, COLOURS.length);
  const shapes = looksOf(picture.boxes, SHAPES.length);
  return { ...picture, image, views, colours, shapes, firsts: firstsOf(picture) };
}

function viewOf(block, view) {
  const arrays = arraysIn(block, view.arrays);
  const box = new Map(), pairs = new Map(), byPrior = new Map();
  arrays.positive_prior.forEach((prior, i) => box.set(prior, i));
  arrays.pair_box.forEach((b, i) => grouped(pairs, b).push(i));
  arrays.pair_prior.forEach((prior, i) => grouped(byPrior, prior).push(i));
  const positives = new Map();
  arrays.positive_box.forEach((b) => positives.set(b, (positives.get(b) || 0) + 1));
  const predicted = predictedOf(arraysIn(block, view.predicted));
  return { ...arrays, predicted, values: view.values, at: box, pairs, byPrior, positives };
}

function grouped(map, key) {
  if (!map.has(key)) map.set(key, []);
  return map.get(key);
}

function predictedOf({ prior, box }) {
  const at = new Map();
  prior.forEach((p, i) => at.set(p, Array.from(box.subarray(4 * i, 4 * i + 4), (v) => v / 4)));
  return at;
}

// Gives the first prior of each level and the total number of priors.
function firstsOf(picture) {
  const firsts = [0];
  picture.levels.forEach(([, width, height], level) => {
    firsts.push(firsts[level] + width * height * picture.anchors[level].length);
  });
  return firsts;
}

// Finds a prior's location. Priors are ordered by level, row, column, anchor.
function placeOf(picture, prior) {
  let level = 0;
  while (prior >= picture.firsts[level + 1]) level += 1;
  const [stride, width] = picture.levels[level];
  const count = picture.anchors[level].length;
  const cell = Math.floor((prior - picture.firsts[level]) / count);
  const column = cell % width, row = Math.floor(cell / width);
  const x = (column + picture.offset) * stride, y = (row + picture.offset) * stride;
  return { level, stride, column, row, anchor: (prior - picture.firsts[level]) % count, x, y };
}

function anchorOf(picture, prior) {
  const { level, anchor, x, y } = placeOf(picture, prior);
  const [x1, y1, x2, y2] = picture.anchors[level][anchor];
  return [x + x1, y + y1, x + x2, y + y2];
}

// Finds the boxes that have no positive under a rule.
function without(picture, view) {
  return picture.boxes.map((_, b) => b).filter((b) => !view.positives.has(b));
}

// Finds the positives that are new since an earlier step, and those that are gone.
function changesSince(before, now) {
  const box = (view, prior) => view.at.has(prior) ? view.positive_box[view.at.get(prior)] : -1;
  const fresh = Array.from(now.positive_prior).filter((p) => box(before, p) !== box(now, p));
  const gone = Array.from(before.positive_prior).filter((p) => !now.at.has(p));
  return { fresh: new Set(fresh), gone };
}
