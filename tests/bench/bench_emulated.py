"""An emulated NPU beside the CPU engine, in one run: seconds to start, tokens a second.

    python tests/bench/bench_emulated.py [--rounds N]

Both stacks have to be installed (make up; qwen-npu install --stack emulated), and the machine
should do nothing else. Each engine is started twice: the first start fills the system's caches, and
the second one counts. Then 1 and 8 clients ask for 64 tokens each, whatever the model would say;
the median of the rounds counts. Nothing here says how fast a real NPU is.

Goal: the emulated engine starts in at most 1.3 times the CPU engine's seconds.
"""

import argparse
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor

import support_path  # noqa: F401  for the modules of tests/support
from thirty import served

from qwen_npu_tut.server.client import Endpoint, chat_body, endpoint_of

TOKENS, GOAL = 64, 1.3
ENGINES = {
    "CPU engine": ("cpu", {}),
    "emulated, native": ("emulated", {"NPU_EMULATED_DEVICE": "native"}),
    "emulated, mapped": ("emulated", {"NPU_EMULATED_DEVICE": "mapped"}),
}


def speed(service: Endpoint, clients: int, rounds: int) -> float:
    "Tokens a second of so many clients together: the median of the rounds, after one to warm up."

    def one(number: int) -> int:
        ask = [{"role": "user", "content": f"你好！{number}"}]
        more = {"temperature": 0, "max_tokens": TOKENS, "extra_body": {"ignore_eos": True}}
        body = chat_body(service.model, ask, False, **more)
        return service.openai.chat.completions.create(**body).usage.completion_tokens

    found = []
    with ThreadPoolExecutor(clients) as pool:
        for _ in range(rounds + 1):
            began = time.monotonic()
            tokens = sum(pool.map(one, range(clients)))
            found.append(tokens / (time.monotonic() - began))
    return statistics.median(found[1:])


def measured(stack: str, environment: dict, rounds: int) -> dict[str, float]:
    "Seconds of the second start, and tokens a second by clients."
    found = {}
    for again in (False, True):
        began = time.monotonic()
        with served(stack, "bench-emulated", environment) as server:
            found["start, s"] = time.monotonic() - began
            if again:
                service = endpoint_of(server)
                for clients in (1, 8):
                    found[f"tokens/s, {clients}"] = speed(service, clients, rounds)
    return found


def main() -> int:  # 1 where the goal is missed
    "Print a row for each engine, with its ratio to the CPU engine's."
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    found = {}
    for name, (stack, environment) in ENGINES.items():
        found[name] = measured(stack, environment, rounds)
        told = [
            f"{what} {each:.1f} ({each / found['CPU engine'][what]:.2f}x)"
            for what, each in found[name].items()
        ]
        print(f"{name:<18} {'   '.join(told)}", flush=True)
    starts = {name: each["start, s"] for name, each in found.items()}
    return 1 if starts["emulated, native"] > GOAL * starts["CPU engine"] else 0


if __name__ == "__main__":
    sys.exit(main())
