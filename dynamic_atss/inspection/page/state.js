// Holds what the page shows. The page is drawn from this state, and the address stores it.

const state = {
  picture: 0, step: PAGE.steps.length - 1, rule: 0, level: -1, box: -1, prior: -1,
  shown: new Set(PAGE.rules.map((_, r) => r)), zoom: 1, x: 0.5, y: 0.5,
  changes: true, ignored: true, overBox: -1, overPrior: -1,
};
let current = null; // the picture that is open
let drawing = false;
const KEPT = ["picture", "step", "rule", "level", "box", "prior"];

// Changes the state, and redraws the page at the next frame.
function change(part) {
  Object.assign(state, part);
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; if (current) drawAll(); });
}

async function go(number) {
  const count = PAGE.pictures.length;
  const picture = (number + count) % count;
  Object.assign(state, { picture, box: -1, prior: -1, overBox: -1, overPrior: -1 });
  await show();
  change({ zoom: 1, x: 0.5, y: 0.5 });
}

async function show() {
  const asked = state.picture;
  const found = await open(asked);
  if (asked === state.picture) current = found;
}

function viewNow(rule = state.rule) { return current.views[rule][state.step]; }

function choose(box, prior = -1) { change({ box, prior, overBox: -1, overPrior: -1 }); }

function activate(rule) {
  state.shown.add(rule);
  change({ rule });
}

function toggle(rule) {
  if (state.shown.has(rule) && state.shown.size > 1) state.shown.delete(rule);
  else state.shown.add(rule);
  change({ rule: state.shown.has(state.rule) ? state.rule : Math.min(...state.shown) });
}

// Gives the shown rules in order. A narrow screen shows only the active rule.
function shownRules() {
  if (narrow()) return [state.rule];
  return PAGE.rules.map((_, r) => r).filter((r) => state.shown.has(r));
}

function narrow() { return window.innerWidth < 700; }

function keepAddress() {
  const text = KEPT.map((name) => `${name}=${state[name]}`).join("&");
  if (location.hash.slice(1) !== text) history.replaceState(null, "", "#" + text);
}

function readAddress() {
  const limits = {
    picture: PAGE.pictures.length, step: PAGE.steps.length, rule: PAGE.rules.length,
    level: Infinity, box: Infinity, prior: Infinity,
  };
  for (const [name, text] of new URLSearchParams(location.hash.slice(1))) {
    const value = Number(text);
    if (KEPT.includes(name) && Number.isInteger(value) && value >= -1 && value < limits[name]) {
      state[name] = ["picture", "step", "rule"].includes(name) ? Math.max(value, 0) : value;
    }
  }
}

// Drops parts of the address that the open picture does not have.
function fitToPicture() {
  if (state.box >= current.boxes.length) state.box = -1;
  if (state.prior >= current.firsts[current.firsts.length - 1]) state.prior = -1;
  if (state.level >= current.levels.length) state.level = -1;
}
