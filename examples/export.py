"""Exports a trained network to Larq Compute Engine: the same as ``larq-filter export``.

python examples/export.py --help
"""

import sys

from larq_filter_cli import main

if __name__ == "__main__":
    main(["export", *sys.argv[1:]])
