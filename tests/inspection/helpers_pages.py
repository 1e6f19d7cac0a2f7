"""Trains a small run and reads its page."""

import json
import logging
import re

import pytest
from helpers_run import call_tool, run_tool


def train(arguments, run, *more):
    found = run_tool("train_net", [*arguments, "--skip-test", "OUTPUT_DIR", run, *more])
    assert found.returncode == 0, found.stderr


class Inspect:
    """Calls the tool in this process."""

    def __init__(self, capsys):
        self.capsys = capsys

    def page(self, *arguments):
        """Gives (the output, the page's data)."""
        code, out, err = self._call(arguments)
        assert not code, err
        return out, data_of(arguments[arguments.index("--output") + 1].read_text())

    def refused(self, *arguments):
        """Gives the error line."""
        code, out, err = self._call(arguments)
        assert (code, out) == (2, "") and err.count("\n") == 1, err
        return err

    def _call(self, arguments):
        with pytest.MonkeyPatch.context() as patch:
            # An earlier test of this process may have set up the log, on this test's output.
            patch.setattr(logging.getLogger("dynamic_atss"), "handlers", [])
            code = call_tool(patch, "inspect_assignment", arguments)
        return code, *self.capsys.readouterr()


def data_of(text):
    return json.loads(re.search(r'type="application/json" id="data">(.*?)</script>', text, re.S)[1])
