"""Make the `shapes` data set: python tools/make_shapes.py --output datasets/shapes"""

from __future__ import annotations

import argparse
import sys

from dynamic_atss.data.shapes import make_shapes
from dynamic_atss.errors import UserError


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--output", default="datasets/shapes", help="folder to make")
    parser.add_argument("--train", type=int, default=600, help="number of training images")
    parser.add_argument("--val", type=int, default=120, help="number of validation images")
    parser.add_argument("--size", type=int, default=192, help="height and width in pixels")
    parser.add_argument("--seed", type=int, default=0, help="seed of the random shapes")
    args = parser.parse_args()
    try:
        make_shapes(args.output, train=args.train, val=args.val, size=args.size, seed=args.seed)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)
    print(f"{args.output}: {args.train} training and {args.val} validation images")


if __name__ == "__main__":
    main()
