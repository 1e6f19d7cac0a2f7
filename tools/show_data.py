"""Draw training images as the network gets them; the same as `dynamic-atss show`.

python tools/show_data.py --config-file configs/X.yaml --output sheet.png [--count 12]
    [--iteration 0] [KEY VALUE ...]
"""

from dynamic_atss import cli
from dynamic_atss.commands.show import main

if __name__ == "__main__":
    cli.run(main)
