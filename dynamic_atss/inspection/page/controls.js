// Makes the controls and one panel for each rule.

const $ = (id) => document.getElementById(id);

function makeControls() {
  PAGE.pictures.forEach((picture, i) => {
    const text = `${i + 1}. ${picture.name} (${several(picture.boxes.length, "box", "boxes")})`;
    $("picture").append(el("option", { value: i }, text));
  });
  $("step").max = PAGE.steps.length - 1;
  $("steps").hidden = PAGE.steps.length < 2;
  PAGE.rules.forEach((rule, r) => $("rules").append(el("button", {
    type: "button", "data-rule": r, onclick: () => narrow() ? activate(r) : toggle(r),
  }, el("span", { class: "digit" }, String(r + 1)), rule.name)));
  PAGE.rules.forEach((rule, r) => $("panels").append(panel(rule, r)));
  listen();
}

function listen() {
  $("picture").addEventListener("change", (e) => go(Number(e.target.value)));
  $("previous").addEventListener("click", () => go(state.picture - 1));
  $("next").addEventListener("click", () => go(state.picture + 1));
  $("step").addEventListener("input", (e) => change({ step: Number(e.target.value) }));
  $("level").addEventListener("change", (e) => change({ level: Number(e.target.value) }));
  $("in").addEventListener("click", () => zoomBy(1.5));
  $("out").addEventListener("click", () => zoomBy(1 / 1.5));
  $("fit").addEventListener("click", () => change({ zoom: 1, x: 0.5, y: 0.5 }));
  $("play").addEventListener("click", play);
  $("ask").addEventListener("click", () => $("help").showModal());
  for (const name of ["changes", "ignored"]) {
    $(name).addEventListener("change", (e) => change({ [name]: e.target.checked }));
  }
  window.addEventListener("resize", () => change({}));
}

function panel(rule, r) {
  const layer = svg("svg", { "aria-hidden": "false" });
  layer.append(hatch(), svg("g"), svg("g"), svg("g")); // boxes, regions, numbers on top
  const stage = el("div", { class: "stage" }, el("canvas", {
    role: "img", "aria-label": `positives under ${rule.name}` }), layer);
  const made = el("section", { class: "panel", "data-rule": r, "aria-label": rule.name },
    el("h2", {}, el("button", { type: "button", onclick: () => activate(r) }, rule.name)),
    el("small", { class: "kind" }), stage, el("p", { class: "summary" }));
  point(stage, r);
  return made;
}

function hatch() {
  const pattern = svg("pattern", { id: "hatched", width: 8, height: 8,
    patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  pattern.append(svg("line", { x1: 0, y1: 0, x2: 0, y2: 8, stroke: "#444", "stroke-width": 1.5 }));
  return pattern;
}

// Shows what the pointer is at, chooses on a click, and moves all pictures when it drags.
function point(stage, r) {
  let from = null;
  stage.addEventListener("pointerdown", (e) => { from = { x: e.clientX, y: e.clientY, moved: false }; });
  stage.addEventListener("pointermove", (e) => {
    if (from && e.buttons && state.zoom > 1) drag(stage, from, e);
    else pointAt(under(stage, r, e), r, e);
  });
  stage.addEventListener("pointerleave", () => {
    from = null;
    $("tip").hidden = true;
    change({ overBox: -1, overPrior: -1 });
  });
  stage.addEventListener("click", (e) => {
    if (!from?.moved) chooseUnder(under(stage, r, e), r);
    from = null;
  });
  stage.addEventListener("wheel", (e) => {
    if (!e.ctrlKey) return;
    e.preventDefault();
    zoomBy(e.deltaY < 0 ? 1.2 : 1 / 1.2);
  }, { passive: false });
}

function pointAt({ prior, box }, r, event) {
  change({ overPrior: prior, overBox: box });
  drawTip(r, event);
}

function chooseUnder({ prior, box }, r) {
  activate(r);
  if (prior >= 0) {
    const at = viewNow(r).at.get(prior), owner = viewNow(r).positive_box[at];
    choose(state.box >= 0 ? state.box : owner ?? -1, prior);
  } else choose(box === state.box ? -1 : box);
}

function drag(stage, from, event) {
  const to = frame(stage.clientWidth, stage.clientHeight);
  const dx = event.clientX - from.x, dy = event.clientY - from.y;
  from.moved ||= Math.hypot(dx, dy) > 3;
  Object.assign(from, { x: event.clientX, y: event.clientY });
  moveTo(state.x - dx / to.scale / current.width, state.y - dy / to.scale / current.height);
}

function moveTo(x, y) {
  const half = 0.5 / state.zoom; // keeps the frame inside the picture
  const within = (v) => Math.max(half, Math.min(1 - half, v));
  change({ x: within(x), y: within(y) });
}

function zoomBy(factor) {
  const zoom = Math.max(1, Math.min(40, state.zoom * factor));
  change({ zoom });
  moveTo(state.x, state.y);
}

function zoomToBox(b) {
  const [x1, y1, x2, y2] = current.boxes[b];
  const zoom = Math.min(current.width / (x2 - x1 + 1), current.height / (y2 - y1 + 1)) / 2.5;
  change({ zoom: Math.max(1, Math.min(zoom, 40)) });
  moveTo((x1 + x2) / 2 / current.width, (y1 + y2) / 2 / current.height);
}

// Shows all steps in order.
function play() {
  let step = 0;
  const next = () => {
    change({ step });
    step += 1;
    if (step < PAGE.steps.length) setTimeout(next, 900);
  };
  next();
}

function syncControls() {
  const step = PAGE.steps[state.step];
  $("picture").value = state.picture;
  $("step").value = state.step;
  $("step").setAttribute("aria-valuetext", step.name);
  $("step-name").textContent = step.name;
  $("changes").checked = state.changes;
  $("ignored").checked = state.ignored;
  syncLevels();
  for (const button of $("rules").children) {
    const rule = Number(button.dataset.rule);
    button.setAttribute("aria-pressed", shownRules().includes(rule));
  }
  $("about").textContent = about(step);
}

function syncLevels() {
  const texts = ["all levels", ...current.levels.map(([s, w, h]) => `stride ${s} (${w} × ${h})`)];
  $("level").replaceChildren(...texts.map((text, i) => el("option", { value: i - 1 }, text)));
  $("level").value = state.level;
}

function about(step) {
  const dynamic = PAGE.rules.filter((rule) => rule.dynamic).map((rule) => rule.name);
  const whose = `${step.name} (${step.weights})`;
  const known = PAGE.rules.every((rule) => rule.dynamic !== null);
  const read = dynamic.length
    ? `${dynamic.join(", ")} read${dynamic.length === 1 ? "s" : ""} the predictions shown: `
    : `${known ? "No rule here reads predictions. " : ""}The predictions shown: `;
  return `${read}${whose}, network in evaluation mode, without augmentation. `
    + `Pictures of ${PAGE.data}, resized for the network to ${current.width} × ${current.height}.`;
}

function syncPanel(made, r) {
  const shown = shownRules().includes(r);
  made.hidden = !shown;
  if (!shown) return;
  made.classList.toggle("active", r === state.rule && shownRules().length > 1);
  const stage = made.querySelector(".stage");
  const height = stage.clientWidth * current.height / current.width;
  stage.style.height = `${Math.round(Math.min(height, 0.66 * window.innerHeight))}px`;
  made.querySelector(".kind").textContent = kindOf(PAGE.rules[r]);
  made.querySelector(".summary").replaceChildren(...summary(r));
  drawStage(stage.querySelector("canvas"), r);
  drawBoxes(stage.querySelector("g"), r, stage.clientWidth, stage.clientHeight);
}

function kindOf(rule) {
  const parts = [];
  if (rule.dynamic !== null) {
    parts.push(rule.dynamic ? "reads predictions" : "reads no predictions");
  }
  if (rule.of_network) parts.push("trained with this rule");
  if (rule.wrappers.length) parts.push(`within ${rule.wrappers.join(", ")}`);
  return parts.join(" · ");
}

function summary(r) {
  const view = viewNow(r), missing = without(current, view);
  const parts = [several(view.positive_prior.length, "positive") + "; "];
  if (missing.length) {
    const links = missing.slice(0, 8).map(linkTo);
    const more = missing.length > 8 ? ` and ${missing.length - 8} more` : "";
    parts.push(el("span", { class: "warning" }, `⚠ ${several(missing.length, "box", "boxes")} `
      + "without a positive: ", ...links, more));
  } else parts.push("every box has a positive");
  if (state.step && state.changes) {
    const { fresh, gone } = changesOf(r);
    parts.push(`; since ${PAGE.steps[state.step - 1].name}: ${fresh.size} new or moved to another `
      + `box, ${gone.length} gone`);
  }
  return parts;
}
