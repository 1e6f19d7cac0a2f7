// Draws a rule's canvas: the picture, with a mark at each positive prior.

// Maps pixels of the picture to pixels of a stage of width w and height h.
function frame(w, h) {
  const scale = Math.min(w / current.width, h / current.height) * state.zoom;
  const x0 = w / 2 - state.x * current.width * scale;
  const y0 = h / 2 - state.y * current.height * scale;
  return { scale, x: (x) => x0 + x * scale, y: (y) => y0 + y * scale,
    fromX: (px) => (px - x0) / scale, fromY: (py) => (py - y0) / scale };
}

function drawStage(canvas, rule) {
  const w = canvas.clientWidth, h = canvas.clientHeight, dense = window.devicePixelRatio || 1;
  canvas.width = Math.round(w * dense);
  canvas.height = Math.round(h * dense);
  const pen = canvas.getContext("2d");
  pen.scale(dense, dense);
  const to = frame(w, h), view = viewNow(rule);
  drawPicture(pen, to);
  if (state.ignored) drawIgnored(pen, to, view);
  if (state.changes && state.step) drawGone(pen, to, rule);
  drawPositives(pen, to, rule, view);
  if (chosenBox() >= 0) drawCandidates(pen, to, view, chosenBox());
  if (chosenPrior() >= 0) drawPrior(pen, to, view, chosenPrior());
}

function chosenBox() { return state.box >= 0 ? state.box : state.overBox; }
function chosenPrior() { return state.overPrior >= 0 ? state.overPrior : state.prior; }

function drawPicture(pen, to) {
  const size = [current.width * to.scale, current.height * to.scale];
  pen.drawImage(current.image, to.x(0), to.y(0), ...size);
  pen.fillStyle = "rgba(255, 255, 255, 0.3)"; // a paler picture makes the marks stand out
  pen.fillRect(to.x(0), to.y(0), ...size);
}

function inLevel(place) { return state.level < 0 || place.level === state.level; }

function radius(to, place) {
  const several = current.anchors[place.level].length;
  return Math.max(2.6, Math.min(0.34 * place.stride * to.scale / Math.sqrt(several), 13));
}

// Gives the screen position of a mark. Places the anchors of one location side by side.
function spot(to, place) {
  const count = current.anchors[place.level].length, side = Math.ceil(Math.sqrt(count));
  const step = place.stride * to.scale / (side + 1);
  const dx = (place.anchor % side - (side - 1) / 2) * step;
  const dy = (Math.floor(place.anchor / side) - (Math.ceil(count / side) - 1) / 2) * step;
  return [to.x(place.x) + dx, to.y(place.y) + dy];
}

function drawPositives(pen, to, rule, view) {
  const fresh = state.changes && state.step ? changesOf(rule).fresh : new Set();
  view.positive_prior.forEach((prior, i) => {
    const place = placeOf(current, prior);
    if (!inLevel(place)) return;
    const box = view.positive_box[i], chosen = chosenBox();
    pen.globalAlpha = chosen < 0 || chosen === box ? 1 : 0.22;
    const share = view.positive_quality[i] / 255;
    drawMark(pen, ...spot(to, place), radius(to, place), box, share);
    if (fresh.has(prior)) drawFresh(pen, ...spot(to, place), radius(to, place));
  });
  pen.globalAlpha = 1;
}

function drawMark(pen, x, y, r, box, share) {
  outline(pen, shapeOf(box), x, y, r);
  pen.lineWidth = 3.5;
  pen.strokeStyle = "rgba(255, 255, 255, 0.9)";
  pen.stroke();
  pen.fillStyle = pale(colourOf(box), share);
  pen.fill();
  pen.lineWidth = 1.6;
  pen.strokeStyle = colourOf(box);
  pen.stroke();
  if (r >= 7.5) label(pen, String(box + 1), x, y, share > 0.55 ? "#fff" : "#111");
}

function label(pen, text, x, y, ink) {
  pen.font = "700 10px system-ui, sans-serif";
  pen.textAlign = "center";
  pen.textBaseline = "middle";
  pen.fillStyle = ink;
  pen.fillText(text, x, y + 0.5);
}

function ring(pen, x, y, r, colour, width, dash = []) {
  pen.setLineDash(dash);
  pen.lineWidth = width;
  pen.strokeStyle = colour;
  pen.beginPath();
  pen.arc(x, y, r, 0, 2 * Math.PI);
  pen.stroke();
  pen.setLineDash([]);
}

function stroke(pen, colour, width, ...points) {
  for (const [c, w] of [["#fff", width + 2], [colour, width]]) {
    pen.strokeStyle = c;
    pen.lineWidth = w;
    pen.beginPath();
    for (let i = 0; i < points.length; i += 4) {
      pen.moveTo(points[i], points[i + 1]);
      pen.lineTo(points[i + 2], points[i + 3]);
    }
    pen.stroke();
  }
}

function drawFresh(pen, x, y, r) {
  ring(pen, x, y, r + 4, "#fff", 3);
  ring(pen, x, y, r + 4, "#111", 1.2);
  stroke(pen, "#111", 1.4, x + r + 2, y - r - 4, x + r + 8, y - r - 4,
    x + r + 5, y - r - 7, x + r + 5, y - r - 1);
}

function changesOf(rule) {
  const steps = current.views[rule];
  steps[state.step].changes ??= changesSince(steps[state.step - 1], steps[state.step]);
  return steps[state.step].changes;
}

function drawGone(pen, to, rule) {
  for (const prior of changesOf(rule).gone) {
    const place = placeOf(current, prior);
    if (!inLevel(place)) continue;
    const [x, y] = spot(to, place), r = radius(to, place);
    ring(pen, x, y, r, "#fff", 3);
    ring(pen, x, y, r, "#555", 1.3);
    stroke(pen, "#555", 1.2, x - r, y + r, x + r, y - r);
  }
}

function drawIgnored(pen, to, view) {
  for (let i = 0; i < view.ignored.length; i += 2) {
    for (let k = 0; k < view.ignored[i + 1]; k += 1) {
      const place = placeOf(current, view.ignored[i] + k);
      if (inLevel(place)) crossedRing(pen, ...spot(to, place), 0.7 * radius(to, place));
    }
  }
}

function crossedRing(pen, x, y, r) {
  ring(pen, x, y, r, "rgba(255, 255, 255, 0.9)", 2.6);
  ring(pen, x, y, r, "#444", 1);
  pen.beginPath();
  pen.moveTo(x - 0.7 * r, y - 0.7 * r);
  pen.lineTo(x + 0.7 * r, y + 0.7 * r);
  pen.stroke();
}

// Marks the candidates of a box that did not win. Positives have their marks already.
function drawCandidates(pen, to, view, box) {
  for (const i of view.pairs.get(box) || []) {
    const place = placeOf(current, view.pair_prior[i]);
    if (!inLevel(place)) continue;
    const [x, y] = spot(to, place), r = radius(to, place), status = view.pair_status[i];
    if (status === LOST) {
      const d = 0.6 * r;
      stroke(pen, "#222", 1.3, x - d, y - d, x + d, y + d, x - d, y + d, x + d, y - d);
    } else if (status === TAKEN) halfRing(pen, x, y, r + 2, view.pair_other[i]);
    else if (status === IGNORED) crossedRing(pen, x, y, r);
  }
}

// Draws the colour and the number of the box that has the prior.
function halfRing(pen, x, y, r, other) {
  const colour = colourOf(other);
  pen.beginPath();
  pen.arc(x, y, r, 0, 2 * Math.PI);
  pen.fillStyle = "#fff";
  pen.fill();
  pen.beginPath();
  pen.arc(x, y, r, Math.PI / 2, 1.5 * Math.PI);
  pen.closePath();
  pen.fillStyle = colour;
  pen.fill();
  ring(pen, x, y, r, "#fff", 3);
  ring(pen, x, y, r, colour, 1.6);
  if (r >= 8) label(pen, String(other + 1), x, y, "#111");
}

function drawPrior(pen, to, view, prior) {
  const place = placeOf(current, prior), predicted = view.predicted.get(prior);
  drawRectangle(pen, to, anchorOf(current, prior), "#111", [8, 5]);
  if (predicted) drawRectangle(pen, to, predicted, "#111", [2, 4]);
  const [x, y] = spot(to, place);
  ring(pen, x, y, radius(to, place) + 5, "#fff", 4);
  ring(pen, x, y, radius(to, place) + 5, "#111", 2);
  if (!view.at.has(prior)) return;
  const [x1, y1, x2, y2] = current.boxes[view.positive_box[view.at.get(prior)]];
  stroke(pen, "#111", 1.5, x, y, to.x((x1 + x2) / 2), to.y((y1 + y2) / 2));
}

function drawRectangle(pen, to, [x1, y1, x2, y2], colour, dash) {
  const where = [to.x(x1), to.y(y1), (x2 - x1) * to.scale, (y2 - y1) * to.scale];
  pen.setLineDash([]);
  pen.lineWidth = 3.5;
  pen.strokeStyle = "rgba(255, 255, 255, 0.85)";
  pen.strokeRect(...where);
  pen.setLineDash(dash);
  pen.lineWidth = 1.6;
  pen.strokeStyle = colour;
  pen.strokeRect(...where);
  pen.setLineDash([]);
}
