// Describes the candidates of a box or of a prior in words and numbers.

function drawDetails() {
  const box = chosenBox(), target = document.getElementById("details");
  const parts = state.prior >= 0 ? priorDetails(state.prior) : [];
  target.replaceChildren(...parts, ...(box >= 0 ? boxDetails(box) : parts.length ? [] : [hint()]));
}

function hint() {
  const text = "Click a box or a mark, or reach it by Tab and press Enter. Its candidates appear "
    + "here, with their scores and the reason why each won or lost.";
  return el("p", { class: "faint" }, text);
}

function boxDetails(b) {
  const [x1, y1, x2, y2] = current.boxes[b];
  const size = `${Math.round(x2 - x1)} × ${Math.round(y2 - y1)} px`;
  const rules = PAGE.rules.map((_, r) => r).filter((r) => state.shown.has(r));
  return [
    el("h2", {}, `${capital(boxName(b))}, ${size}`),
    el("div", { class: "cards" }, ...rules.map((r) => card(b, r))),
    el("h3", {}, `Candidates under ${PAGE.rules[state.rule].name}, ${PAGE.steps[state.step].name}`),
    candidateTable(b, viewNow()),
  ];
}

// Counts the box's candidates by outcome under one rule.
function card(b, rule) {
  const counts = countsOf(viewNow(rule), b);
  const total = counts.reduce((sum, [, number]) => sum + number, 0);
  const most = Math.max(1, ...counts.map(([, number]) => number));
  const rows = counts.flatMap(([reason, number]) => [
    el("b", {}, number.toLocaleString("en")),
    el("span", {}, PAGE.reasons[reason], el("span", {
      class: "bar" + (PAGE.reasons[reason].startsWith("won") ? " won" : ""),
      style: `width: ${Math.max(100 * number / most, 1)}%`,
    })),
  ]);
  return el("div", { class: "card" + (rule === state.rule ? " active" : "") },
    el("h2", {}, PAGE.rules[rule].name), el("p", {}, several(total, "candidate")),
    el("div", { class: "bars" }, ...rows), overTime(b, rule));
}

function countsOf(view, b) {
  const found = [];
  for (let i = 0; i < view.counts.length; i += 3) {
    if (view.counts[i] === b) found.push([view.counts[i + 1], view.counts[i + 2]]);
  }
  const first = ([reason]) => PAGE.reasons[reason].startsWith("won") ? 0 : 1;
  return found.sort((p, q) => first(p) - first(q) || q[1] - p[1]);
}

function overTime(b, rule) {
  if (PAGE.steps.length < 2) return "";
  const counts = current.views[rule].map((view) => view.positives.get(b) || 0);
  const shown = counts.map((n, s) => s === state.step ? `[${n}]` : String(n)).join(" → ");
  return el("p", { class: "faint" }, `positives step by step: ${shown}`);
}

function candidateTable(b, view) {
  const kept = view.pairs.get(b) || [];
  const total = countsOf(view, b).reduce((sum, [, number]) => sum + number, 0);
  const missing = total - kept.length;
  const note = missing > 0 ? [el("p", { class: "faint" }, `${several(missing, "more candidate")} `
    + "with the same outcomes and lower scores: not in this page.")] : [];
  return el("div", {}, table(view, kept, (i) => outcome(view, i)), ...note);
}

function columnsOf(view) {
  const columns = view.values.map((name, k) => [name.replaceAll("_", " "),
    (i) => shortly(view["value_" + k][i])]);
  const known = [["anchor IoU", "pair_anchor"], ["predicted IoU", "pair_predicted"],
    ["class score", "pair_class"]];
  for (const [name, key] of known) {
    if (view[key] && !view.values.includes(name)) columns.push([name, (i) => share(view[key][i])]);
  }
  columns.push([PAGE.rules[state.rule].quality + " (quality)", (i) => qualityOf(view, i)]);
  if (view.positive_weight) columns.push(["weight", (i) => weightOf(view, i)]);
  return columns;
}

function qualityOf(view, i) {
  if (view.pair_status[i] !== WON) return "";
  return share(view.positive_quality[view.at.get(view.pair_prior[i])]);
}

function weightOf(view, i) {
  const at = view.at.get(view.pair_prior[i]);
  return view.pair_status[i] === WON ? shortly(view.positive_weight[at]) : "";
}

function table(view, pairs, first) {
  const columns = columnsOf(view);
  const head = ["outcome", "stride", "column, row", ...columns.map(([name]) => name)];
  return el("div", { class: "wide", tabindex: "0", role: "region", "aria-label": "candidates" },
    el("table", {},
      el("thead", {}, el("tr", {}, ...head.map((name) => el("th", { scope: "col" }, name)))),
      el("tbody", {}, ...pairs.map((i) => row(view, i, columns, first)))));
}

function row(view, i, columns, first) {
  const prior = view.pair_prior[i], place = placeOf(current, prior);
  const several = current.anchors[place.level].length > 1 ? ` · ${place.anchor + 1}` : "";
  const cells = [String(place.stride), `${place.column}, ${place.row}${several}`,
    ...columns.map(([, value]) => value(i))];
  return el("tr", {
    tabindex: "0", class: prior === state.prior ? "chosen" : "", "data-prior": prior,
    onclick: () => change({ prior: state.prior === prior ? -1 : prior }),
    onmouseenter: () => change({ overPrior: prior }), onmouseleave: () => change({ overPrior: -1 }),
    onfocus: () => change({ overPrior: prior }), onblur: () => change({ overPrior: -1 }),
  }, el("td", {}, ...first(i)), ...cells.map((text) => el("td", {}, text)));
}

function outcome(view, i) {
  const status = view.pair_status[i], other = view.pair_other[i];
  const icon = el("span", { class: "icon " + STATUS[status], "aria-hidden": "true" }, ICONS[status]);
  return [icon, " ", ...reasonOf(view, i), other >= 0 ? linkTo(other) : "",
    status === LOST && other < 0 ? learnsElsewhere(view, i) : ""].filter((part) => part !== "");
}

function reasonOf(view, i) {
  const text = PAGE.reasons[view.pair_reason[i]];
  return [view.pair_other[i] >= 0 ? text.replace("another box", "").replace("a box", "") + " " : text];
}

// Names the box that a prior learns instead of this one.
function learnsElsewhere(view, i) {
  const at = view.at.get(view.pair_prior[i]);
  if (at === undefined || view.positive_box[at] === view.pair_box[i]) return "";
  return el("span", { class: "faint" }, " (learns ", linkTo(view.positive_box[at]), ")");
}

function linkTo(b) {
  return el("button", { type: "button", class: "link",
    onclick: (event) => { event.stopPropagation(); choose(b); } }, `box ${b + 1}`);
}

function priorDetails(prior) {
  const place = placeOf(current, prior), view = viewNow();
  const where = `stride ${place.stride}, column ${place.column}, row ${place.row}`;
  const pairs = view.byPrior.get(prior) || [];
  const rows = table(view, pairs, (i) => [linkTo(view.pair_box[i]), ": ", ...outcome(view, i)]);
  return [
    el("h2", {}, `Prior at ${where}`),
    el("p", {}, `Under ${PAGE.rules[state.rule].name}: ${learns(view, prior)}.`),
    ...(pairs.length ? [rows] : []),
  ];
}

function learns(view, prior) {
  if (view.at.has(prior)) {
    const at = view.at.get(prior), quality = PAGE.rules[state.rule].quality;
    return `learns ${boxName(view.positive_box[at])}, ${quality} ${share(view.positive_quality[at])}`;
  }
  return isIgnored(view, prior) ? "is ignored: neither a positive nor background" : "is background";
}

function isIgnored(view, prior) {
  for (let i = 0; i < view.ignored.length; i += 2) {
    if (prior >= view.ignored[i] && prior < view.ignored[i] + view.ignored[i + 1]) return true;
  }
  return false;
}

// Describes the prior or box at the pointer.
function drawTip(rule, event) {
  const tip = document.getElementById("tip"), view = viewNow(rule);
  const lines = state.overPrior >= 0 ? priorTip(view, state.overPrior)
    : state.overBox >= 0 ? [capital(describeBox(state.overBox, view))] : [];
  tip.hidden = !lines.length;
  tip.replaceChildren(...lines.map((text) => el("p", {}, text)));
  const left = Math.min(event.clientX + 14, window.innerWidth - tip.offsetWidth - 8);
  const below = event.clientY + 16 + tip.offsetHeight < window.innerHeight;
  tip.style.left = `${Math.max(left, 4)}px`;
  tip.style.top = `${below ? event.clientY + 16 : event.clientY - tip.offsetHeight - 10}px`;
}

function priorTip(view, prior) {
  const place = placeOf(current, prior);
  const lines = [`Stride ${place.stride}, column ${place.column}, row ${place.row}: ${learns(view, prior)}`];
  for (const i of (view.byPrior.get(prior) || []).slice(0, 6)) {
    if (view.pair_status[i] === WON) continue;
    const by = view.pair_other[i] >= 0 ? ` (box ${view.pair_other[i] + 1})` : "";
    lines.push(`For box ${view.pair_box[i] + 1}: ${PAGE.reasons[view.pair_reason[i]]}${by}`);
  }
  return lines;
}
