"""Trains a network by one method: the same as ``larq-filter train``.

python examples/train.py --help
"""

import sys

from larq_filter_cli import main

if __name__ == "__main__":
    main(["train", *sys.argv[1:]])
