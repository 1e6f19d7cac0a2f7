"""The rules that the README writes train as pasted, with the commands that stand below them."""

import re

import pytest
from helpers_run import ROOT, read_lines, run_tool, write_config

pytestmark = pytest.mark.slow

SECTION = re.search(
    r"## Write an assigner\n(.*?)\n## ", (ROOT / "README.md").read_text(), re.DOTALL
)[1]
PYTHON = re.findall(r"```python\n(.*?)```", SECTION, re.DOTALL)
CODE = dict(zip(("per image", "packed"), PYTHON, strict=True))
COMMAND = r"train_net\.py --config-file \.\.\. (MODEL\.ASSIGNER\.NAME my_rule\.py:{} .*)"


@pytest.mark.parametrize("form", CODE)
def test_a_rule_of_the_readme_trains(tmp_path, form):
    (tmp_path / "my_rule.py").write_text(CODE[form])
    [name] = re.findall(r"^class (\w+)", CODE[form], re.MULTILINE)
    [overrides] = re.findall(COMMAND.format(name), SECTION)
    words = [word.replace("my_rule.py", f"{tmp_path}/my_rule.py") for word in overrides.split()]
    out = tmp_path / "run"
    settings = ["SOLVER.MAX_ITER", 3, "SOLVER.LOG_PERIOD", 1, "OUTPUT_DIR", out]
    done = run_tool("train_net", [*write_config(tmp_path), "--skip-test", *settings, *words])
    assert done.returncode == 0, done.stderr
    lines = read_lines(out)
    assert [line["iteration"] for line in lines] == [1, 2, 3]
    assert all(line["loss_reg"] > 0 and line["loss_IoU"] > 0 for line in lines)  # positives


def test_the_readme_has_a_rule_of_each_form():
    assert "PerImage" in CODE["per image"] and "resolve" in CODE["packed"]
