"""Experiments: networks trained by method, compared, searched; each run in a folder of its own.

    training       the one fit loop: a config in, a run folder and a result out
    run_folder     what a run is, and the files that say so
    own            data and models without a name, and who may make them
    outcome        what a finished run is summed up to
    progress       what is saved after each epoch
    checkpoints    what a killed process, a full disk or a damaged file can't spoil
    prediction     a trained network in use, from each kind of file
    timing         peers timed side by side
    bare_steps     optimizers as peers, on weights alone
    strategies     several devices and machines
    memory         graphs of earlier runs given back
    tables         the one writer of tables
    files          whole files, errors in a line, locks
    methods/       who trains the binary kernels, by name
    comparison/    methods times seeds
    sweeps/        search of hyperparameters

Nothing of the library below imports this package.
"""
