"A part of the contract before the real engine; `make prove` asks all of it."

import pytest

from qwen_npu_tut.server.client import endpoint_of
from qwen_npu_tut.contract import answer_of

QUICK = [
    "models-list",
    "chat",
    "chat-usage",
    "finish-stop",
    "finish-length",
    "stream-order",
    "stream-usage",
    "thinking-on",
    "thinking-off",
    "tool-required",
    "json-schema",
    "logprobs",
    "get-chat-405",
    "broken-json-400",
    "health",
]


@pytest.mark.parametrize("name", QUICK)
def test_the_real_engine_keeps_it(live_server, name):
    found = answer_of(endpoint_of(live_server), name)
    assert found.result == "pass", found.evidence
