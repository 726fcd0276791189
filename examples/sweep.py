"""Searches hyperparameters: the same as ``larq-filter sweep``.

python examples/sweep.py --help
"""

import sys

from larq_filter_cli import main

if __name__ == "__main__":
    main(["sweep", *sys.argv[1:]])
