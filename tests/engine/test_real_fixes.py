"Options of SGLang that fixes name, asked of SGLang's own parser. Nothing is started."

import json
import os
import re
import shlex
import subprocess

import pytest
from fixes import CAPITALS, fixes
from pip._internal.commands import create_command
from programs import DOCKER_RUN, USAGE, refused
from typer.main import get_command

from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.faces import cli
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host

PARSER = """
import argparse, contextlib, io, json, sys
from sglang.srt.server_args import ServerArgs
parser = argparse.ArgumentParser()
ServerArgs.add_cli_args(parser)
def why(words):
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said), contextlib.redirect_stdout(io.StringIO()):
            parser.parse_args(["--model-path", "m", *words])
    except SystemExit as ended:  # 0 after --help
        if ended.code: return said.getvalue().strip().rpartition("error: ")[2]
    return ""
lines = json.load(sys.stdin)
json.dump([[why(each) for each in lines], sorted(parser._option_string_actions)], sys.stdout)
"""
# What 0.5.23 does not have, and which older versions do: read in the server_args.py of the wheels
# of 0.5.3rc0, 0.5.6.post2, 0.5.9, 0.5.16 and 0.5.19.
OLDER = {
    "--cuda-graph-bs": "0.5.3rc0 to 0.5.9; in 0.5.16 and 0.5.19 for --cuda-graph-bs-decode",
    "--cuda-graph-max-bs": "0.5.3rc0 to 0.5.9; in 0.5.16 and 0.5.19 for --cuda-graph-max-bs-decode",
    "--enable-piecewise-cuda-graph": "0.5.6.post2 and 0.5.9",
    "--disable-piecewise-cuda-graph": "0.5.16 and 0.5.19",
}
# Other engines' options, in rows about these engines.
OTHERS = {
    "vllm": "docs.vllm.ai, engine arguments: --gpu-memory-utilization --tensor-parallel-size "
    "--max-model-len --enforce-eager --enable-sleep-mode --data-parallel-size "
    "--data-parallel-size-local --data-parallel-start-rank --dtype --max-num-seqs --quantization "
    "--compilation-config --trust-remote-code --block-size --max-num-batched-tokens "
    "--enable-auto-tool-choice --tool-call-parser --chat-template --limit-mm-per-prompt "
    "--max-lora-rank --hf-overrides --kv-transfer-config --enable-chunked-prefill "
    "--no-enable-chunked-prefill --no-enable-prefix-caching --data-parallel-address "
    "--data-parallel-rpc-port --omni --speculative-config --additional-config "
    "--enable-expert-parallel --runner --task --allowed-local-media-path",
    "mooncake": "its master's: --default_kv_lease_ttl --enable_http_metadata_server",
    "ms-swift": "its arguments for vLLM: --vllm_max_lora_rank",
    "router": "sglang-router's: --pd-disaggregation --cb-failure-threshold "
    "--disable-circuit-breaker",
    "dpkg": "dpkg(1): --configure",
    "gpustack": "its options for MindIE: --npu-memory-fraction",
    "git": "git-clone(1), git-submodule(1): --depth --init --recursive --tags",
    "docker": "docker's: --memory --privileged --shm-size --runtime --device --user --env",
}


def alone(command: str) -> bool:
    "Whether a command is options that an engine gets."
    return command.startswith("-") and bool(refused(shlex.split(command), DOCKER_RUN, str))


def of_an_engine(command: str) -> list[str] | None:
    "The options that SGLang gets in a command, None where there are none."
    words = [CAPITALS.get(word, word) for word in shlex.split(command)]
    if alone(command):
        return words
    for start in (["-m", "sglang.launch_server"], ["sglang", "serve"]):
        for place in range(len(words)):
            if words[place : place + 2] == start:
                return words[place + 2 :]
    return None


@pytest.fixture(scope="module")
def answers():
    "By line of options: what SGLang 0.5.23 says against it; and all options that it knows."
    lines = {
        shlex.join(words): words
        for fix in fixes()
        for command in fix.commands()
        if (words := of_an_engine(command)) is not None
    }
    engine = Engine(read_machine(Host()), stacks()["cpu"])
    done = subprocess.run(
        [engine.python, "-c", PARSER],
        input=json.dumps([*lines.values()]),
        env={**os.environ, **engine.stack.environment},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    said, known = json.loads(done.stdout)
    return dict(zip(lines, said)), set(known)


def elsewhere(owner: str, words: list[str]) -> bool:
    "Whether all options are another engine's, or only older versions' of SGLang."
    named = {word.partition("=")[0] for word in words if word.startswith("--")}
    theirs = {each for name, told in OTHERS.items() if name in owner for each in told.split()}
    pips = {*options_of_pip("install")}
    return bool(named) and (named <= theirs or named <= {*OLDER} or named <= pips)


def open_choice(why: str) -> bool:
    "Whether only a word in capitals, which a person replaces, is none of the choices."
    return bool(re.search(r"invalid choice: '[A-Z]+'", why))


def test_sglang_takes_the_options_of_fixes(answers):
    said, _ = answers
    wrong = {
        f"{fix.owner} {fix.language}: {command}": why
        for fix in fixes()
        for command in fix.commands()
        if (words := of_an_engine(command)) is not None
        and (why := said[shlex.join(words)])
        and not open_choice(why)
        and not elsewhere(f"{fix.owner} {fix.text.lower()}", words)
    }
    assert wrong == {}


def known_elsewhere() -> set[str]:
    "Options of our own command, pip's install, and programs that fixes name."
    app = get_command(cli.app)
    commands = [*app.commands.values()]
    commands += [each for group in commands for each in getattr(group, "commands", {}).values()]
    ours = {option for command in commands for given in command.params for option in given.opts}
    pips = {option for name in ("install", "download") for option in options_of_pip(name)}
    theirs = {word.rstrip("=") for usage in USAGE.values() for word in usage.split()}
    return ours | pips | theirs | {*OLDER}


def options_of_pip(name: str) -> list[str]:
    return [str(each) for each in create_command(name).parser.option_list_all for each in
            each._long_opts]  # fmt: skip


def test_options_that_are_only_spoken_of_exist_too(answers):
    "Leave --page-size out; the --speculative flags: a beginning that several options have."
    known = answers[1] | known_elsewhere()
    wrong = {}
    for fix in fixes():
        theirs = {each for name, told in OTHERS.items() if name in fix.text.lower() or
                  name in fix.owner for each in told.split()}  # fmt: skip
        for option in re.findall(r"(?<![\w-])--[a-z][\w-]+", fix.prose()):
            begins = any(each.startswith(f"{option}-") for each in known)
            if option not in known | theirs and not begins:
                wrong.setdefault(fix.owner, []).append(option)
    assert wrong == {}


def test_older_options_are_older_ones(answers):
    "A name that SGLang still has is no older one."
    assert not {*OLDER} & answers[1]
