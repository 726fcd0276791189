"""Every argument works or is refused with a text that names it; nothing hangs or crashes.

The properties are in ``fuzzing``. Here are as many examples as fit into a minute, always the same
ones; ``tests/soak/fuzz.py`` runs others.
"""

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fuzzing

COSTLY = ("optimizers", "configs of optimizers")


@pytest.mark.slow
@pytest.mark.parametrize("name", fuzzing.PROPERTIES)
def test_works_or_says_what_is_wrong(name):
    examples = 60 if name in COSTLY else 200

    @settings(
        max_examples=examples,
        derandomize=True,
        deadline=None,  # sizes are bounded instead
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(st.data())
    def holds(data):
        fuzzing.PROPERTIES[name](data)

    holds()
