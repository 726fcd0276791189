"""Exports a trained network to Larq Compute Engine: the same as ``larq-filter export``.

python examples/export.py --help
"""

from larq_filter.cli import export

if __name__ == "__main__":
    export.start()
