"""Detects in pictures, folders and videos, as `dynamic-atss predict` does. See --help.

python tools/predict.py --weights output/demo/run --input my/pictures --output found
"""

from dynamic_atss import cli
from dynamic_atss.commands.predict import main

if __name__ == "__main__":
    cli.run(main)
