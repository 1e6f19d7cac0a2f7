"""Scores a detector, as `dynamic-atss test` does. --help has examples.

python tools/test_net.py --config-file configs/X.yaml MODEL.WEIGHT file.pth
torchrun --nproc-per-node 8 tools/test_net.py --config-file configs/X.yaml MODEL.WEIGHT file.pth
"""

from dynamic_atss import cli
from dynamic_atss.commands.test import main

if __name__ == "__main__":
    cli.run(main)
