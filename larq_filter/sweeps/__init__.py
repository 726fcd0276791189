"""Hyperparameter search: where to look (spaces), who tries what (studies), what came out (results).

A study is a set of trials in a storage that any number of processes may share. A trial is one choice
of the searched knobs, trained with one seed or several. Optuna is an extra,
``pip install "larq_filter[sweep]"``; only ``studies`` needs it.
"""
