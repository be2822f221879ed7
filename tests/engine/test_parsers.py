"The parsers that rows about replies name, asked of the installed SGLang."

import json
import re
import subprocess
from pathlib import Path

import pytest
from patience import patient
from tool_calls import FORMS

from qwen_npu_tut.base.failures import known
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host

ASKED = """
import json, sys
from sglang.srt.entrypoints.openai.protocol import Function, Tool
from sglang.srt.function_call.function_call_parser import FunctionCallParser
from sglang.srt.parser.reasoning_parser import ReasoningParser
city = {"type": "object", "properties": {"city": {"type": "string"}}}
tools = [Tool(type="function", function=Function(name="get_weather", parameters=city))]
said = {}
for name, text in json.load(sys.stdin).items():
    try:
        calls = FunctionCallParser(tools, name).parse_non_stream(text)[1]
        said[name] = [[each.name, json.loads(each.parameters)] for each in calls]
    except Exception as error:
        said[name] = repr(error)
kinds = [FunctionCallParser.ToolCallParserEnum, ReasoningParser.DetectorMap]
thought = ReasoningParser("qwen3-thinking").parse_non_stream("Paris.")
print("answer:" + json.dumps([said, *map(list, kinds), thought]))
"""


@pytest.fixture(scope="module")
def answer():
    "What each parser reads in its form; names of parsers for tools, for thinking; a lone thought."
    python = Engine(read_machine(Host()), stacks()["cpu"]).python
    if not python.exists():
        pytest.skip("the engine is not installed")
    forms = {parser: text for row in FORMS.values() for parser, text in row.items()}
    done = subprocess.run(
        [str(python), "-c", ASKED],
        input=json.dumps(forms),
        text=True,
        capture_output=True,
        timeout=patient(300),
        env={"CUDA_VISIBLE_DEVICES": "", "PATH": str(Path(python).parent), "HOME": "/nonexistent"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.rpartition("answer:")[2])


def named(flag: str) -> dict[str, set[str]]:
    "By row the parsers that its fix names after a flag, in a list after NAME, and in brackets."
    found = {}
    for row in known().rows:
        parsers = set(re.findall(rf"`--{flag} ([\w.-]+)", row.fix))
        if not row.id.startswith("reply-") or not parsers:
            continue
        if "NAME" in parsers:
            listed = row.fix.partition("NAME`: ")[2].partition(". ")[0].rstrip(".")
            pieces = re.sub(r" \(`.*?\)", "", listed).split(", ")
            parsers |= {piece.rpartition(" ")[2] for piece in pieces}
        parsers |= set(re.findall(r"\(([a-z][\w-]*)\)", row.fix))
        found[row.id] = parsers - {"NAME"}
    return found


def test_each_parser_reads_the_form_for_which_it_is_named(answer):
    right = [["get_weather", {"city": "Paris"}]]
    assert {name: said for name, said in answer[0].items() if said != right} == {}


def test_each_parser_that_a_row_names_is_there(answer):
    tools, thinking = named("tool-call-parser"), named("reasoning-parser")
    assert FORMS.keys() <= tools.keys() and len(thinking) > 4
    assert set().union(*tools.values()) - set(answer[1]) == set()
    assert set().union(*thinking.values()) - set(answer[2]) == set()


def test_a_parser_for_models_that_always_think_takes_an_answer_for_a_thought(answer):
    assert answer[3][0] == "Paris." and not answer[3][1]
