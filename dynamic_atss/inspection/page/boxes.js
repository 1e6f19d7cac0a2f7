// Draws the boxes over a picture as elements that a user can reach by Tab and point at.

const MIN_LABELLED = 15; // screen pixels: smaller boxes show no number

function drawBoxes(layer, rule, w, h) {
  const to = frame(w, h), view = viewNow(rule), active = rule === state.rule;
  while (layer.children.length > current.boxes.length) layer.lastChild.remove();
  while (layer.children.length < current.boxes.length) layer.append(newBox(layer.children.length));
  current.boxes.forEach((_, b) => placeBox(layer.children[b], b, to, view, active));
  const [, , regions, top] = layer.parentNode.children;
  drawRegions(regions, to);
  top.replaceChildren(...numbersOnTop(layer, view));
}

// Copies the numbers of the chosen box and of boxes without a positive, so that none covers them.
function numbersOnTop(layer, view) {
  const boxes = [...new Set([...without(current, view), chosenBox()])].filter((b) => b >= 0);
  return boxes.map((b) => {
    const copy = svg("g", { class: layer.children[b].getAttribute("class"), "aria-hidden": "true" });
    const [, , ground, text] = layer.children[b].children;
    copy.append(ground.cloneNode(), text.cloneNode(true));
    return copy;
  });
}

function newBox(b) {
  const group = svg("g", { role: "button", "data-box": b });
  group.append(svg("rect", { class: "under" }), svg("rect", { class: "edge" }),
    svg("rect", { class: "ground", rx: 3 }), svg("text"));
  group.addEventListener("focus", () => change({ overBox: b, overPrior: -1 }));
  group.addEventListener("blur", () => change({ overBox: -1 }));
  return group;
}

function placeBox(group, b, to, view, active) {
  const [x1, y1, x2, y2] = current.boxes[b], missing = !view.positives.has(b);
  const edge = { x: to.x(x1), y: to.y(y1), width: Math.max((x2 - x1) * to.scale, 1),
    height: Math.max((y2 - y1) * to.scale, 1) };
  const [under, line, ground, text] = group.children;
  setAll(under, edge);
  setAll(line, edge);
  line.style.stroke = missing ? "" : colourOf(b);
  const chosen = chosenBox(), mine = chosen === b;
  group.setAttribute("class", ["box", missing && "without", mine && "chosen",
    chosen >= 0 && !mine && "faded"].filter(Boolean).join(" "));
  const written = mine || missing || Math.min(edge.width, edge.height) >= MIN_LABELLED;
  group.style.display = edge.y + edge.height < 0 || edge.x + edge.width < 0 ? "none" : "";
  write(ground, text, written ? `${b + 1}${missing ? " !" : ""}` : "", edge, colourOf(b));
  group.setAttribute("tabindex", active ? 0 : -1);
  group.setAttribute("aria-label", describeBox(b, view));
  group.setAttribute("aria-pressed", state.box === b);
}

function write(ground, text, words, edge, colour) {
  const width = words ? 7.5 * words.length + 7 : 0, height = words ? 16 : 0;
  const y = Math.max(edge.y - height, 0);
  setAll(ground, { x: edge.x - 1, y, width, height, fill: colour });
  setAll(text, { x: edge.x - 1 + width / 2, y: y + 12 });
  text.textContent = words;
}

function setAll(element, attributes) {
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
}

function describeBox(b, view) {
  const [x1, y1, x2, y2] = current.boxes[b], count = view.positives.get(b) || 0;
  const size = `${Math.round(x2 - x1)} by ${Math.round(y2 - y1)} pixels`;
  return `${boxName(b)}, ${size}, ${count ? several(count, "positive") : "without a positive"}`;
}

// Hatches the ignore regions, which are neither objects nor background.
function drawRegions(layer, to) {
  layer.replaceChildren(...current.regions.map(([x1, y1, x2, y2]) => svg("rect", {
    x: to.x(x1), y: to.y(y1), width: (x2 - x1) * to.scale, height: (y2 - y1) * to.scale,
    fill: "url(#hatched)", stroke: "#444", "stroke-dasharray": "2 3",
  })));
}

// Finds the marked prior under the pointer, or else the smallest box around the pointer.
function under(stage, rule, event) {
  const area = stage.getBoundingClientRect(), to = frame(area.width, area.height);
  const px = event.clientX - area.left, py = event.clientY - area.top;
  const prior = nearestMark(viewNow(rule), to, px, py);
  return { prior, box: prior >= 0 ? -1 : smallestAround(to.fromX(px), to.fromY(py), 3 / to.scale) };
}

function nearestMark(view, to, px, py) {
  const pairs = view.pairs.get(state.box) || []; // a chosen box shows marks for these, too
  const marked = [...view.positive_prior, ...pairs.map((i) => view.pair_prior[i])];
  let best = -1, least = Infinity;
  for (const prior of marked) {
    const place = placeOf(current, prior);
    if (!inLevel(place)) continue;
    const [x, y] = spot(to, place), away = Math.hypot(x - px, y - py);
    if (away < Math.max(radius(to, place), 5) + 1 && away < least) [best, least] = [prior, away];
  }
  return best;
}

function smallestAround(x, y, slack) {
  let best = -1, least = Infinity;
  current.boxes.forEach(([x1, y1, x2, y2], b) => {
    const inside = x > x1 - slack && x < x2 + slack && y > y1 - slack && y < y2 + slack;
    if (inside && (x2 - x1) * (y2 - y1) < least) [best, least] = [b, (x2 - x1) * (y2 - y1)];
  });
  return best;
}
