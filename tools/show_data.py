"""Draws training images as the network gets them, as `dynamic-atss show` does.

python tools/show_data.py --config-file configs/X.yaml --output sheet.png [--count 12]
    [--iteration 0] [KEY VALUE ...]
"""

from dynamic_atss import cli
from dynamic_atss.commands.show import main

if __name__ == "__main__":
    cli.run(main)
