"""Trains a network by one method: the same as ``larq-filter train``.

python examples/train.py --help
"""

from larq_filter.cli import train

if __name__ == "__main__":
    train.start()
