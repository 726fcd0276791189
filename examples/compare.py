"""Trains a network by several methods, and compares: the same as ``larq-filter compare``.

python examples/compare.py --help
"""

import sys

from larq_filter_cli import main

if __name__ == "__main__":
    main(["compare", *sys.argv[1:]])
