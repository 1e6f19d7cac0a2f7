"""Converts a checkpoint from and to other formats, as `dynamic-atss convert` does.

python tools/convert_checkpoint.py model_final.pth release.pth --to project --strip
python tools/convert_checkpoint.py dsla_r50.pth ours.pth --to project
python tools/convert_checkpoint.py ours.pth dsla_r50.pth --to mmdet
python tools/convert_checkpoint.py ours.pth timm.pth --to backbone --body timm/convnext_atto
"""

from dynamic_atss import cli
from dynamic_atss.commands.convert import main

if __name__ == "__main__":
    cli.run(main)
