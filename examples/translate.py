"""Translates a latent recipe into a filter: the same as ``larq-filter translate``.

python examples/translate.py --help
"""

from larq_filter.cli import translate

if __name__ == "__main__":
    translate.start()
