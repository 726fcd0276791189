"""The commands of ``larq-filter``: one module each, with its flags.

``run_flags`` are those that several commands share, ``command_line`` is how all of them start,
``settings.json`` the hyperparameters that ``compare`` takes by default.

This is the only package that prints, reads flags and uses absl. ``examples/`` holds a script for
each command, for whoever works in a clone.
"""
