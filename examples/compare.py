"""Trains a network by several methods, and compares: the same as ``larq-filter compare``.

python examples/compare.py --help
"""

from larq_filter.cli import compare

if __name__ == "__main__":
    compare.start()
