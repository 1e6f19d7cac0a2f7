"""Trains a detector and scores it, as `dynamic-atss train` does. --help has examples.

python tools/train_net.py --config-file configs/dynamic_atss/dynamic_atss_R_50_FPN_1x.yaml
torchrun --nproc-per-node 8 tools/train_net.py --config-file configs/atss/atss_R_50_FPN_1x.yaml
python tools/train_net.py --config-file output/mine/config.yaml --resume
"""

from dynamic_atss import cli
from dynamic_atss.commands.train import main

if __name__ == "__main__":
    cli.run(main)
