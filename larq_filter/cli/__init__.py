"""The commands of ``larq-filter``: one module each, with its flags.

This is the only package that prints, reads flags and uses absl. ``examples/`` holds a script for
each command, for whoever works in a clone.
"""
