"""Times the step of an optimizer: the same as ``larq-filter benchmark``.

python examples/benchmark.py --help
"""

import sys

from larq_filter_cli import main

if __name__ == "__main__":
    main(["benchmark", *sys.argv[1:]])
