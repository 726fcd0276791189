"""Translates a latent recipe into a filter: the same as ``larq-filter translate``.

python examples/translate.py --help
"""

import sys

from larq_filter_cli import main

if __name__ == "__main__":
    main(["translate", *sys.argv[1:]])
