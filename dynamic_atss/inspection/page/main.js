// Starts the page: reads the address, opens a picture, draws it.

function drawAll() {
  fitToPicture();
  const rules = shownRules();
  const columns = Math.min(rules.length, window.innerWidth >= 1000 ? 3 : 2);
  $("panels").style.setProperty("--columns", columns);
  syncControls();
  for (const made of $("panels").children) syncPanel(made, Number(made.dataset.rule));
  drawFocusedDetails();
  keepAddress();
}

// Rebuilds the table. Restores the focus of its row and its scroll position.
let drawn = "";
function drawFocusedDetails() {
  const names = ["picture", "step", "rule", "box", "prior", "overBox"];
  const now = names.map((name) => state[name]).join() + [...state.shown].join();
  if (now === drawn) return;
  drawn = now;
  const held = document.activeElement?.closest("tr[data-prior]")?.dataset.prior;
  const scrolled = document.querySelector(".wide")?.scrollTop ?? 0;
  drawDetails();
  const wide = document.querySelector(".wide");
  if (wide) wide.scrollTop = scrolled;
  if (held) document.querySelector(`tr[data-prior="${held}"]`)?.focus({ preventScroll: true });
}

function drawLegend() {
  const texts = ["●■◆▲▼ colour, shape and number: the box that a prior learns", "paler: lower quality",
    "larger: coarser level", "dashed, with “!”: a box without a positive",
    "✓ won", "✕ lost", "⇄ taken by another box (half-filled)", "⊘ ignored", "? keys and marks"];
  $("legend").replaceChildren(...texts.map((text) => el("span", {}, text)));
}

async function begin() {
  readAddress();
  state.shown.add(state.rule);
  makeControls();
  drawLegend();
  listenToKeys();
  await show();
  drawAll();
  document.body.dataset.ready = "true";
}

begin();
