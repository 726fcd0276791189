"""The commands of ``larq-filter``: one module each, with its flags.

``run_flags`` makes those that runs share from fields, ``command_line`` is how all commands start,
``mistakes`` what is said of flags that can't be read, ``network_flags`` and ``networks`` which
trained network is meant, ``settings.json`` the hyperparameters that
``compare`` takes by default.

A new flag of runs is a field of ``experiments.run_folder.Config``; a hyperparameter is one of
``experiments.methods.knobs.Knobs``; a flag of one command stands in its module.

This is the only package that prints, reads flags and uses absl. ``examples/`` holds a script for
each command, for whoever works in a clone.
"""
