// Chooses colours, shapes and words. Boxes also differ by shape and number, not only by colour.

const COLOURS = ["#0072B2", "#C77800", "#007A5A", "#B04A87", "#2B93D1", "#C94A00", "#6A3D9A", "#5E6B00"];
const SHAPES = ["circle", "square", "diamond", "up", "down"];
const ICONS = ["✓", "⇄", "✕", "⊘"];
const STATUS = ["won", "taken", "lost", "ignored"];

function colourOf(box) { return COLOURS[current.colours[box]]; }
function shapeOf(box) { return SHAPES[current.shapes[box]]; }

// Picks one of `count` looks for each box. Boxes near each other get different looks.
function looksOf(boxes, count) {
  const looks = [];
  boxes.forEach((box, b) => {
    const seen = new Array(count).fill(0);
    for (let a = 0; a < b; a += 1) seen[looks[a]] += 1 / (1 + apart(box, boxes[a])) ** 2;
    const turn = seen.map((_, k) => (b + k) % count); // starts at another look for each box
    looks.push(turn.reduce((best, k) => seen[k] < seen[best] ? k : best));
  });
  return looks;
}

// Gives the distance between two boxes in pixels, 0 where they touch.
function apart([x1, y1, x2, y2], [u1, v1, u2, v2]) {
  return Math.hypot(Math.max(u1 - x2, x1 - u2, 0), Math.max(v1 - y2, y1 - v2, 0));
}

// Mixes the colour with white. A lower share gives a paler colour.
function pale(colour, share) {
  const strength = 0.12 + 0.88 * share;
  const mix = [1, 3, 5].map((i) => {
    return Math.round(255 - (255 - parseInt(colour.slice(i, i + 2), 16)) * strength);
  });
  return `rgb(${mix.join()})`;
}

function outline(pen, shape, x, y, r) {
  pen.beginPath();
  if (shape === "circle") pen.arc(x, y, r, 0, 2 * Math.PI);
  else cornersOf(shape, x, y, r).forEach(([px, py], i) => i ? pen.lineTo(px, py) : pen.moveTo(px, py));
  pen.closePath();
}

function cornersOf(shape, x, y, r) {
  const s = 0.89 * r, d = 1.25 * r, t = 1.2 * r;
  return {
    square: [[x - s, y - s], [x + s, y - s], [x + s, y + s], [x - s, y + s]],
    diamond: [[x, y - d], [x + d, y], [x, y + d], [x - d, y]],
    up: [[x, y - t], [x + t, y + 0.85 * t], [x - t, y + 0.85 * t]],
    down: [[x, y + t], [x + t, y - 0.85 * t], [x - t, y - 0.85 * t]],
  }[shape];
}

// Makes an element with attributes and children. Strings become text, never HTML.
function el(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== ""));
  return made;
}

function svg(tag, attributes = {}, text = "") {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
  if (text !== "") made.textContent = text;
  return made;
}

function several(count, one, more = one + "s") {
  return `${count.toLocaleString("en")} ${count === 1 ? one : more}`;
}

// Formats a number of a rule with few digits.
function shortly(value) {
  if (Number.isNaN(value)) return "";
  if (!Number.isFinite(value)) return value > 0 ? "∞" : "-∞";
  const size = Math.abs(value);
  if (size >= 1000) return Math.round(value).toLocaleString("en");
  return value.toFixed(size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.01 || !size ? 3 : 5);
}

function share(byte) { return (byte / 255).toFixed(2); }

function boxName(b) {
  return `box ${b + 1} (${PAGE.classes[current.labels[b]] ?? "?"})`;
}

function capital(text) { return text[0].toUpperCase() + text.slice(1); }
