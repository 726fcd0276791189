"""Classifies images with a trained network: the same as ``larq-filter predict``.

python examples/predict.py --help
"""

import sys

from larq_filter_cli import main

if __name__ == "__main__":
    main(["predict", *sys.argv[1:]])
