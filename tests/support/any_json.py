"Any JSON, for tests that take whatever comes; $QWEN_NPU_EXAMPLES says how many cases."

import os

from hypothesis import HealthCheck, settings, strategies as st

many = settings(
    max_examples=int(os.environ.get("QWEN_NPU_EXAMPLES", "200")),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=8,
)


def keyed(names: list[str]):
    "Objects that have some of these names, with any values."
    return st.dictionaries(st.sampled_from(names), JSON, max_size=len(names))
