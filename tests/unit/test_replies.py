"What a service answered, read as a log: a tool call or thinking in the content, no end, no answer."

import io
import json
import re
import time

import pytest
from any_json import JSON, keyed, many
from hypothesis import given, strategies as st
from tool_calls import FORMS

from qwen_npu_tut.base.diagnose import diagnose, reply_lines
from qwen_npu_tut.base.failures import known

ROWS = {row.id: row for row in known().rows if row.id.startswith("reply-")}
CALLED = {"id": "1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
ISSUE = {  # as published: sgl-project/sglang#26790
    "id": "b1",
    "object": "chat.completion",
    "model": "Qwen3.6-35B-A3B-FP8",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "<tool_call>\n<function=get_current_weather>\n<parameter=location>\n"
                "New York\n</parameter>\n</function>\n</tool_call>",
                "tool_calls": [],
            },
            "finish_reason": "tool_calls",
        }
    ],
}


def whole(content, finish="stop", reasoning=None, calls=None) -> bytes:
    "A chat completion as SGLang 0.5.23 answers it."
    message = {"role": "assistant", "content": content, "reasoning_content": reasoning}
    if calls:
        message["tool_calls"] = calls
    choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
    usage = {"prompt_tokens": 9, "total_tokens": 12, "completion_tokens": 3}
    return json.dumps(
        {"id": "1", "object": "chat.completion", "model": "m", "choices": [choice], "usage": usage}
    ).encode()


def streamed(content, finish="stop", reasoning=None, calls=None) -> bytes:
    "The same in pieces of three letters, and what it used after them."
    deltas = [{"role": "assistant", "content": ""}]
    for name, text in (("reasoning_content", reasoning or ""), ("content", content or "")):
        deltas += [{name: text[begin : begin + 3]} for begin in range(0, len(text), 3)]
    deltas += [{"tool_calls": [call]} for call in calls or ()]
    choices = [[{"index": 0, "delta": each, "finish_reason": None}] for each in deltas]
    choices += [[{"index": 0, "delta": {}, "finish_reason": finish}], []]
    lines = [json.dumps({"object": "chat.completion.chunk", "choices": each}) for each in choices]
    return "".join(f"data: {line}\n\n" for line in (*lines, "[DONE]")).encode()


def found(reply: bytes) -> list[str]:
    return [each.id for each in diagnose(io.BytesIO(reply))]


@pytest.mark.parametrize("made", [whole, streamed])
@pytest.mark.parametrize("finish", ["stop", "tool_calls"])
@pytest.mark.parametrize(
    "row, parser, text",
    [(row, parser, text) for row, forms in FORMS.items() for parser, text in forms.items()],
)
def test_each_form_of_a_tool_call_names_its_parser(row, parser, text, finish, made):
    for said in (text, f"I look it up.\n\n{text}", f"{text}\n"):
        if row == "reply-tool-call-pythonic" and said[0] == "I":
            continue  # in a sentence a list of calls is Python like any other
        (first, *more) = diagnose(io.BytesIO(made(said, finish)))
        assert first.id == row and not more
        assert re.search(rf"(?<![\w-]){re.escape(parser)}(?![\w-])", first.fix)


def test_every_row_about_a_tool_call_is_shown_here():
    assert {name for name in ROWS if "tool-call" in name} == FORMS.keys()


def test_a_reply_as_it_was_published():
    for text in (json.dumps(ISSUE), json.dumps(ISSUE, indent=2)):
        (first,) = diagnose(io.BytesIO(text.encode()))
        assert first.id == "reply-tool-call-qwen3-coder" and "qwen3_coder" in first.fix
        assert first.names == {"name": "get_current_weather"}


@pytest.mark.parametrize("made", [whole, streamed])
@pytest.mark.parametrize(
    "said, row",
    [
        (dict(content="<think>\nHm.\n</think>\n\nHello!"), "reply-thinking-in-content"),
        (dict(content="\n<think>\nHm"), "reply-thinking-in-content"),
        (dict(content="Hm, a greeting.\n</think>\n\nHello!"), "reply-thinking-without-its-start"),
        (dict(content="◁think▷Hm◁/think▷Hello"), "reply-thinking-of-another-form"),
        (
            dict(content="<|channel|>analysis<|message|>Hm<|end|><|start|>assistant"),
            "reply-thinking-of-another-form",
        ),
        (
            dict(content="analysisThe user greets.assistantfinalHello"),
            "reply-thinking-of-another-form",
        ),
        (dict(content=None, reasoning="Paris."), "reply-answer-in-reasoning"),
        (dict(content=None, reasoning="Hm", finish="length"), "reply-thinking-took-all-tokens"),
        (dict(content="<think>\nHm", finish="length"), "reply-thinking-took-all-tokens"),
        (
            dict(content="", reasoning="Hm, so. What else? " * 2 + "字" * 90_000, finish="length"),
            "reply-repeats-itself",
        ),
        (dict(content="Paris is", finish="length"), "reply-cut-at-max-tokens"),
        (dict(content="The" + "!" * 500, finish="length"), "reply-exclamation-marks"),
        (dict(content=None, reasoning="!" * 90_000, finish="length"), "reply-exclamation-marks"),
        (dict(content="So " + "of the " * 99, finish="length"), "reply-repeats-itself"),
        (
            dict(content="I am a model, and I am glad to help you. " * 99, finish="length"),
            "reply-repeats-itself",
        ),
        (
            dict(content='{"name": "get_weather", "parameters": {"city": "Paris"}}'),
            "reply-tool-call-llama",
        ),
        (
            dict(content='[{"name": "get_weather", "arguments": {"city": "Paris"}}]\n'),
            "reply-tool-call-mistral",
        ),
        (dict(content='get_weather[ARGS]{"city": "Paris"}'), "reply-tool-call-mistral"),
        (dict(content="Paris.<|im_end|>\n<|im_start|>user"), "reply-special-tokens-in-content"),
    ],
)
def test_what_went_wrong_with_a_reply(said, row, made):
    assert found(made(**said))[0] == row


def test_a_stream_that_was_cut():
    reply = streamed("So " + "of the " * 99)
    cut = reply[: reply.rindex(b'"finish_reason"')]
    assert found(cut) == ["reply-repeats-itself"]
    assert found(cut[: cut.rindex(b"data:")]) == ["reply-repeats-itself"]
    assert found(streamed("Paris is")[:-90]) == []


CODE = """Cut the thinking away:

```python
def answer(text):
    "What stands after </think>; a <tool_call> or [TOOL_CALLS] is left."
    if "<|im_end|>" in text: text = text.split("<|im_end|>")[0]
    return text.rpartition("</think>")[2]  # <think>, <tool_call>{"name": "f"}</tool_call>
```

Qwen3 puts a call between `<tool_call>` and `</tool_call>`: `<tool_call>{"name": "f"}`.
"""
GOOD = {
    "a tool call": dict(content=None, finish="tool_calls", calls=[CALLED]),
    "a call after thinking": dict(
        content=None, finish="tool_calls", reasoning="I call it.", calls=[CALLED, CALLED]
    ),
    "the words": dict(content="A tool call is made by the model; the function=name is yours."),
    "a tag": dict(content="Write <p>Hello</p> or <div class='think'>, not <think-tank>."),
    "a tag in quotes": dict(content='The token "</think>" ends it, "<|im_end|>" the turn.'),
    "code": dict(content=CODE),
    "long code": dict(content=CODE + "\n".join(f"    x{i} = f({i})" for i in range(5000))),
    "ten exclamation marks": dict(content="!" * 10),
    "fifty exclamation marks": dict(content="!" * 50),
    "laughter": dict(content="ha" * 50),
    "a googol": dict(content="1" + "0" * 100),
    "a table": dict(content="| n | n² |\n|---|---|\n" + "| 1 | 1 |\n" * 60),
    "zeros": dict(content="[" + "0.0, " * 200 + "0.0]"),
    "a list": dict(content="[1, 2, 3]"),
    "a list of words": dict(content="[print(x), len(y)]"),
    "JSON": dict(content='{"name": "Paris", "country": "France"}'),
    "Chinese": dict(content="巴黎是法国的首都！" * 3),
    "thinking and an answer": dict(content="\n\nParis.", reasoning="\nHm, France.\n"),
    "no letters": dict(content=""),
}


@pytest.mark.parametrize("made", [whole, streamed])
@pytest.mark.parametrize("said", GOOD.values(), ids=GOOD)
def test_a_good_reply_shows_nothing(said, made):
    assert found(made(**said)) == []


def test_a_refusal_is_told_in_its_own_words():
    error = {
        "object": "error",
        "message": "The input (9 tokens) is longer than the model's",
        "code": 400,
    }
    for reply in (json.dumps(error).encode(), b"data: " + json.dumps({"error": error}).encode()):
        (first,) = diagnose(io.BytesIO(reply))
        assert error["message"] in f"{first.cause}{first.text}"


def test_a_reply_is_a_line_for_each_of_its_parts():
    said = reply_lines(whole("a\r\nb\rc\u2028d" + "x" * 9000, "length", "Hm", [CALLED])).decode()
    names = re.findall(r"^reply (\w+): ", said, re.MULTILINE)
    assert names == ["content", "reasoning", "tool_calls", "finish_reason", "error"]
    assert said.startswith(r"reply content: a\nb\nc" + "\u2028") and said.count("\n") == 5
    assert len(said) < 8200 and "\nreply tool_calls: 1\n" in said


@pytest.mark.parametrize(
    "said", ["!" * 400_000, "ab " * 200_000, "<tool_call>" * 40_000, "`" * 99_999]
)
def test_a_long_reply_is_read_at_once(said):
    began = time.process_time()
    found(whole(said, "length", said))
    assert time.process_time() - began < 5


PART = keyed(["content", "reasoning_content", "reasoning", "tool_calls"])
CHOICE = JSON | st.fixed_dictionaries({"message": JSON | PART, "finish_reason": JSON | st.none()})
REPLY = JSON | st.fixed_dictionaries({"choices": JSON | st.lists(CHOICE, max_size=2)})
REPLY |= st.fixed_dictionaries({"error": JSON | keyed(["message", "code"]), "choices": JSON})


@many
@given(st.lists(REPLY, min_size=1, max_size=3), st.booleans(), st.integers(0, 20))
def test_any_json_is_read(replies, stream, cut):
    texts = [json.dumps(each) for each in replies] if stream else [json.dumps(replies[0])]
    text = "".join(f"data: {each}\n\n" for each in texts) if stream else texts[0]
    raw = text[: len(text) - cut].encode()
    assert all(line.startswith(b"reply ") for line in reply_lines(raw).split(b"\n") if line)
    diagnose(io.BytesIO(raw))


@many
@given(st.text() | st.text("<>{}[]|/`!\\\n\"'=()think_toolcal", max_size=60))
def test_no_text_ends_in_a_traceback(said):
    assert all(name in ROWS for name in found(whole(said)))
    assert reply_lines(whole(said)).count(b"\n") == 5
