"""Tests the page in a headless Chromium: pointer, keyboard, slider, no errors, no requests."""

import pytest
from helpers_browser import BROWSER, Page
from helpers_pages import Inspect

NEEDS = "no Chromium: run apt-get install chromium to test the page"
pytestmark = [pytest.mark.skipif(BROWSER is None, reason=NEEDS), pytest.mark.slow]
# Computes the screen position of a point of the picture.
PLACE = """(({0}) => {{
  const stage = document.querySelector('.panel[data-rule="{1}"] .stage');
  stage.scrollIntoView({{ block: 'center' }});
  const area = stage.getBoundingClientRect(), to = frame(area.width, area.height);
  {2}
  return [area.left + x, area.top + y];
}})()"""


@pytest.fixture(scope="module")
def file(run, tmp_path_factory):
    output = tmp_path_factory.mktemp("page") / "page.html"
    rules = ("dynamic_atss", "atss", "simota", "max_iou")
    arguments = ("--weights", run, "--rules", *rules, "--count", 3, "--output", output)
    Inspect(Silent()).page(*arguments)
    return output


class Silent:
    """Replaces capsys, which a fixture of a module cannot use."""

    def readouterr(self):
        return "", ""


@pytest.fixture
def page(file, tmp_path):
    with Page(tmp_path / "profile") as page:
        page.open(file.as_uri())
        yield page
        assert page.messages == []
        inline = [address for address in page.requests if not address.startswith("data:")]
        assert inline == [file.as_uri()]


def box_place(page, box, rule=0):
    """Gives a point on a box's edge, away from marks."""
    code = f"""const [x1, y1, x2, y2] = current.boxes[{box}];
      const x = to.x(x1) + 1, y = to.y(y2) - 1;"""
    return page.run(PLACE.format("", rule, code))


def prior_place(page, prior, rule=0):
    code = f"const [x, y] = spot(to, placeOf(current, {prior}));"
    return page.run(PLACE.format("", rule, code))


def details(page):
    return page.run("document.getElementById('details').innerText")


def chosen(page):
    return page.run("[state.box, state.prior]")


def test_one_picture_for_each_rule(page):
    shown = page.run("Array.from(document.querySelectorAll('.panel h2'), (x) => x.innerText)")
    assert [name.split()[0] for name in shown] == ["dynamic_atss", "atss", "simota", "max_iou"]
    about = page.run("document.getElementById('about').innerText")
    assert about.startswith("dynamic_atss, simota read the predictions shown: iteration 6 (")
    assert "model_final.pth, trained (raw) weights" in about
    ink = page.run("""Array.from(document.querySelectorAll('canvas'), (canvas) => {
      const { data } = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height);
      return new Set(data).size; })""")
    assert all(number > 50 for number in ink)


def test_a_box_is_pointed_at_and_clicked(page):
    x, y = box_place(page, 0)
    page.point(x, y)
    tip = page.run("document.getElementById('tip').innerText")
    assert tip.startswith("Box 1 (") and "positive" in tip
    assert page.run("!document.getElementById('tip').hidden")
    page.click(x, y)
    assert chosen(page) == [0, -1]
    words = details(page)
    assert "Candidates under dynamic_atss, iteration 6" in words and "threshold" in words.lower()
    rows = page.run("document.querySelectorAll('#details tbody tr').length")
    assert rows == page.run("viewNow().pairs.get(0).length") > 0
    page.key("Escape")
    assert chosen(page) == [-1, -1]


def test_a_prior_is_pointed_at_and_clicked(page):
    prior = page.run("viewNow(1).positive_prior[0]")
    x, y = prior_place(page, prior, rule=1)
    page.point(x, y)
    assert page.run("state.overPrior") == prior
    page.click(x, y)
    assert chosen(page)[1] == prior
    assert page.run("state.rule") == 1
    assert "Under atss: learns box" in details(page)


def test_the_table_tells_what_the_numbers_say(page):
    """The table shows the outcome of each pair. A link leads to the box that took the prior."""
    taken = "current.boxes.findIndex((_, b) => pairsTaken(b).length)"
    page.run("""window.pairsTaken = (b) =>
      (viewNow().pairs.get(b) || []).filter((i) => viewNow().pair_status[i] === TAKEN)""")
    for rule in range(4):
        page.run(f"activate({rule})")
        box = page.run(taken)
        if box < 0:
            continue
        page.run(f"choose({box})")
        page.settle()
        other = page.run(f"viewNow().pair_other[pairsTaken({box})[0]]")
        label = page.run(f"""viewNow().positive_box[viewNow().at.get(
          viewNow().pair_prior[pairsTaken({box})[0]])]""")
        assert other == label != box
        link = """Array.from(document.querySelectorAll('#details tbody tr'))
          .find((row) => row.innerText.includes('taken by')).querySelector('.link')"""
        assert page.run(f"{link}.innerText") == f"box {other + 1}"
        page.run(f"{link}.click()")
        page.settle()
        assert chosen(page)[0] == other
        return
    pytest.fail("no box lost a prior to another")


def test_the_slider_moves_the_assignment(page):
    page.run("choose(0)")
    page.settle()
    before = page.run("Array.from(viewNow().positive_quality)")
    words = page.run("document.getElementById('about').innerText")
    page.run("""(() => { const slider = document.getElementById('step'); slider.value = 0;
      slider.dispatchEvent(new Event('input')); })()""")
    page.settle()
    assert page.run("document.getElementById('step-name').value") == "initial network"
    assert "SEED 0, nothing learnt" in page.run("document.getElementById('about').innerText")
    assert page.run("Array.from(viewNow().positive_quality)") != before
    assert page.run("document.getElementById('about').innerText") != words
    page.key(".")
    assert page.run("document.getElementById('step-name').value") == "iteration 2"
    assert "since initial network:" in page.run("document.querySelector('.summary').innerText")
    page.key("p")
    page.until("state.step === PAGE.steps.length - 1")


def test_keys(page):
    for key, rule in (("ArrowDown", 1), ("ArrowDown", 2), ("ArrowUp", 1)):
        page.key(key)
        assert page.run("state.rule") == rule
    page.key("ArrowRight")
    page.until("state.picture === 1 && current.name === PAGE.pictures[1].name")
    page.key("ArrowLeft")
    page.until("state.picture === 0 && current.name === PAGE.pictures[0].name")
    page.key("l")
    assert page.run("[state.level, document.getElementById('level').value]") == [0, "0"]
    page.key("L", shift=True)
    assert page.run("state.level") == -1
    page.key("2")
    hidden = "Array.from(document.querySelectorAll('.panel'), (x) => x.hidden)"
    assert page.run(hidden) == [False, True, False, False]
    assert page.run("state.rule") == 0
    page.key("+")
    assert page.run("state.zoom") == 1.5
    page.key("0")
    assert page.run("state.zoom") == 1
    page.key("?")
    assert page.run("document.getElementById('help').open")
    page.key("Escape")
    assert not page.run("document.getElementById('help').open")


def test_boxes_and_rows_are_reached_by_tab(page):
    page.run("document.getElementById('ask').focus()")
    for _ in range(3):  # past the name of the rule, to its first boxes
        page.key("Tab")
        if page.run("document.activeElement.dataset.box === '0'"):
            break
    assert page.run("document.activeElement.getAttribute('aria-label')").startswith("box 1 (")
    page.key("Enter")
    assert chosen(page) == [0, -1]
    page.key("f")
    assert page.run("state.zoom") > 1
    page.run("document.querySelector('#details tbody tr').focus()")
    prior = page.run("Number(document.activeElement.dataset.prior)")
    page.key("Enter")
    assert chosen(page) == [0, prior]
    assert f"column {page.run(f'placeOf(current, {prior}).column')}," in details(page)
    page.key("Escape")
    assert chosen(page) == [-1, -1]


def test_boxes_without_a_positive_are_flagged(page):
    """A dashed edge and a mark after the number flag them without colour."""
    found = page.run("""(async () => {
      for (let p = 0; p < PAGE.pictures.length; p += 1) {
        await go(p);
        for (let r = 0; r < PAGE.rules.length; r += 1) {
          const missing = without(current, viewNow(r));
          if (missing.length) { activate(r); return [p, r, missing[0]]; }
        }
      }
      return null; })()""")
    if found is None:
        pytest.skip("every box has a positive")
    page.settle()
    _, rule, box = found
    group = f"""document.querySelector('.panel[data-rule="{rule}"] [data-box="{box}"]')"""
    assert page.run(f"{group}.querySelector('text').textContent") == f"{box + 1} !"
    dash = f"getComputedStyle({group}.querySelector('.edge')).strokeDasharray"
    assert page.run(dash) not in ("none", "")
    page.key("n")
    assert chosen(page)[0] == box
    assert "without a positive" in page.run(f"{group}.getAttribute('aria-label')")


def test_a_narrow_screen_shows_one_rule_and_is_not_scrolled_sideways(page):
    page.resize(400, 800)
    page.run("choose(0)")
    page.settle()
    shown = "Array.from(document.querySelectorAll('.panel')).filter((x) => !x.hidden).length"
    assert page.run(shown) == 1
    assert page.run("document.documentElement.scrollWidth") <= 400
    page.key("3")
    page.settle()
    assert page.run("[state.rule, document.querySelectorAll('.panel.active').length]") == [2, 0]
    assert page.run("document.documentElement.scrollWidth") <= 400


def test_the_address_keeps_what_is_looked_at(page, file):
    page.key("ArrowRight")
    page.until("current.name === PAGE.pictures[1].name")
    page.run("choose(1)")
    page.settle()
    address = page.run("location.hash")
    page.call("Page.navigate", url="about:blank")
    page.open(file.as_uri() + address)
    page.settle()
    assert page.run("[state.picture, state.box]") == [1, 1]
    page.requests = [file.as_uri()]


def test_one_step_has_no_slider(run, tmp_path):
    output = tmp_path / "page.html"
    arguments = ("--weights", run / "model_final.pth", "--count", 1, "--output", output)
    Inspect(Silent()).page(*arguments)
    with Page(tmp_path / "profile") as page:
        page.open(output.as_uri())
        assert page.run("document.getElementById('steps').offsetHeight") == 0
        assert page.messages == []
