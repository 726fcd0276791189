"""Hyperparameter search: where to look (spaces), who tries what (studies), the outcome (results).

Studies lie in ``storages``; what a trial does is an ``objective``.

A study is a set of trials in a storage that any number of processes may share. A trial is a choice
of the searched knobs, trained with one seed or several. Optuna is an extra,
``pip install "larq_filter[sweep]"``; spaces and results do without it.
"""
