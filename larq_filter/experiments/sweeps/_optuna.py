"""The one door to Optuna."""

import contextlib
import warnings


def load():
    """Optuna, or an error that says what to type."""
    try:
        import optuna
    except ImportError as error:
        raise ImportError(
            'A search needs Optuna. Type: pip install "larq_filter[sweep]"'
        ) from error
    return optuna


@contextlib.contextmanager
def experimental():
    """Heartbeats and what belongs to them are marked experimental since 2021, and still there."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", load().exceptions.ExperimentalWarning)
        yield


@contextlib.contextmanager
def quiet():
    """Without Optuna's own lines on each trial; they come with a traceback for a failed one."""
    logging = load().logging
    before = logging.get_verbosity()
    logging.set_verbosity(logging.ERROR)
    try:
        yield
    finally:
        logging.set_verbosity(before)
