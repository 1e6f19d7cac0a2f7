"""Checks data sets before a training, as `dynamic-atss check` does.

python tools/check_dataset.py coco:my/train.json:my/images coco:my/val.json:my/images --html my.html
python tools/check_dataset.py voc:my/devkit:trainval --fix clean.json
python tools/check_dataset.py --config-file configs/X.yaml [--set KEY VALUE ...]
"""

from dynamic_atss import cli
from dynamic_atss.commands.check import main

if __name__ == "__main__":
    cli.run(main)
