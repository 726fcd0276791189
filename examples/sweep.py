"""Searches hyperparameters: the same as ``larq-filter sweep``.

python examples/sweep.py --help
"""

from larq_filter.cli import sweep

if __name__ == "__main__":
    sweep.start()
