// Handles the keyboard. The page's help lists the keys.

const KEYS = {
  ArrowLeft: () => go(state.picture - 1),
  ArrowRight: () => go(state.picture + 1),
  ArrowUp: () => nextRule(-1),
  ArrowDown: () => nextRule(1),
  l: () => nextLevel(1),
  L: () => nextLevel(-1),
  ",": () => nextStep(-1),
  ".": () => nextStep(1),
  p: () => play(),
  n: () => nextWithout(),
  "+": () => zoomBy(1.5),
  "=": () => zoomBy(1.5),
  "-": () => zoomBy(1 / 1.5),
  0: () => change({ zoom: 1, x: 0.5, y: 0.5 }),
  f: () => { if (chosenBox() >= 0) zoomToBox(chosenBox()); },
  c: () => change({ changes: !state.changes }),
  i: () => change({ ignored: !state.ignored }),
  Escape: () => choose(-1),
  "?": () => $("help").showModal(),
};

function listenToKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.altKey || event.metaKey || $("help").open) return;
    if (event.key === "Enter" || event.key === " ") return enter(event);
    const control = event.target.closest("select, input, .wide");
    if (control && (event.key.startsWith("Arrow") || control.matches("select"))) return;
    const act = KEYS[event.key] ?? KEYS[event.key.toLowerCase()] ?? digit(event.key);
    if (!act) return;
    event.preventDefault();
    act();
  });
}

function digit(key) {
  const rule = Number(key) - 1;
  return Number.isInteger(rule) && rule >= 0 && rule < PAGE.rules.length
    ? () => narrow() ? activate(rule) : toggle(rule) : null;
}

// Chooses the box or the row that has the focus.
function enter(event) {
  const box = event.target.closest("[data-box]"), row = event.target.closest("tr[data-prior]");
  if (event.target.closest("button")) return;
  if (box) choose(Number(box.dataset.box) === state.box ? -1 : Number(box.dataset.box));
  else if (row) change({ prior: Number(row.dataset.prior) === state.prior ? -1 : Number(row.dataset.prior) });
  else return;
  event.preventDefault();
}

function nextRule(by) {
  const rules = narrow() ? PAGE.rules.map((_, r) => r) : shownRules();
  const at = rules.indexOf(state.rule);
  activate(rules[(at + by + rules.length) % rules.length]);
}

function nextLevel(by) {
  const count = current.levels.length + 1;
  change({ level: (state.level + 1 + by + count) % count - 1 });
}

function nextStep(by) {
  change({ step: Math.max(0, Math.min(PAGE.steps.length - 1, state.step + by)) });
}

function nextWithout() {
  const missing = without(current, viewNow());
  if (missing.length) choose(missing.find((b) => b > state.box) ?? missing[0]);
}
