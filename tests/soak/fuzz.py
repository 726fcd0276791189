"""Random arguments of every kind: what ``helpers/fuzzing.py`` promises, about five minutes of it.

Each try runs one property on some hundred examples; others with each seed.
"""

import pathlib
import sys
import traceback
import zlib

sys.path.append(str(pathlib.Path(__file__).parents[1] / "helpers"))

from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

import fuzzing

TRIES = 20
EXAMPLES = {"optimizers": 60, "configs of optimizers": 30, "recipe files": 100, "flags": 100}


def case_of(name: str):
    """The case that runs one property."""

    def case(folder, seed):
        del folder
        for attempt in range(TRIES):

            @seeded(zlib.crc32(f"{name} {seed} {attempt}".encode()))
            @settings(
                max_examples=EXAMPLES.get(name, 300),
                deadline=None,
                database=None,
                suppress_health_check=list(HealthCheck),
            )
            @given(st.data())
            def holds(data):
                fuzzing.PROPERTIES[name](data)

            try:
                holds()
            except Exception:  # whatever it is, it is what was lost
                yield traceback.format_exc()[-3000:]
            else:
                yield None

    return case


CASES = {f"fuzz: {name}": case_of(name) for name in fuzzing.PROPERTIES}
