"""Runs a training or a test from its configuration, for the commands `train` and `test`.

- training.py runs a training from start to end.
- start.py does the checks and makes folder, log and lock before the first image.
- wiring.py builds the parts of a training from the configuration.
- records.py saves, logs and tests during a training.
- assignment_pictures.py draws the assignment of training images.
- stop_message.py logs how to continue after a signal.
- testing.py runs a test.
- reporting.py writes pages about the errors of a test.
"""

from dynamic_atss.run.reporting import report
from dynamic_atss.run.testing import test
from dynamic_atss.run.training import train

__all__ = ["report", "test", "train"]
