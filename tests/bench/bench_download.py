"""Time to a proved model, memory, resume and verify; one run, on loopback.

It is held against curl with sha256sum, and against the bare client: ModelScope's, or Hugging Face's
with a hash of what it brought, for that client compares none. (For each listing in Hugging Face's
words the hub here hashes the whole model; curl asks for no listing.)

    python tests/bench/bench_download.py [--speaks huggingface] [--megabytes 629] [--rounds 6]
        [--on FOLDER]
"""

import argparse
import json
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from qwen_npu_tut.rehearsal.hub import shard

MODEL = "owner/Bench-8B"
OURS = """
import re, sys
from qwen_npu_tut.model.download import download
assert download(sys.argv[1], hub=sys.argv[2])
print(int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) / 1000)
"""
BARE = {
    "modelscope": """
import sys
from modelscope import snapshot_download
snapshot_download(sys.argv[1], cache_dir=sys.argv[3])
""",
    "huggingface": """
import hashlib, pathlib, sys
from concurrent.futures import ThreadPoolExecutor
from huggingface_hub import HfApi, hf_hub_download

api = HfApi(sys.argv[2], token=False)
found = api.model_info(sys.argv[1], revision="main", files_metadata=True)
names = [row.rfilename for row in found.siblings]

def fetch(name):
    hf_hub_download(sys.argv[1], name, endpoint=sys.argv[2], token=False, local_dir=sys.argv[3])

with ThreadPoolExecutor(4) as pool: list(pool.map(fetch, names))
for name in names:
    with open(pathlib.Path(sys.argv[3], name), "rb") as data: hashlib.file_digest(data, "sha256")
""",
}
VERIFY = "import sys; from qwen_npu_tut.model.folder import verify; assert verify(sys.argv[1])"
# Hugging Face's client wants to hear of every file which commit and which content it is.
SERVE = """
import sys
from http.server import BaseHTTPRequestHandler as Answer
from qwen_npu_tut.rehearsal.hub import Hub

ended = Answer.end_headers
def end_headers(answer):
    answer.send_header("X-Repo-Commit", "0" * 40)
    answer.send_header("ETag", '"' + answer.path.encode().hex() + '"')
    ended(answer)

if sys.argv[3] == "huggingface": Answer.end_headers = end_headers
with Hub(sys.argv[1], sys.argv[2], speaks=sys.argv[3]) as hub:
    print(hub.url, flush=True)
    sys.stdin.read()
    print(sum(hub.sent.values()), flush=True)
"""


def model_of(megabytes: int, folder: Path) -> list[str]:
    "A folder with four shards; gives the names of all files."
    folder.mkdir()
    weights = {}
    for number in range(1, 5):
        name = f"model-0000{number}-of-00004.safetensors"
        content = bytearray(shard([str(number)], megabytes * 125_000))
        content[-1 << 20 :] = os.urandom(1 << 20)
        (folder / name).write_bytes(content)
        weights[str(number)] = name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    (folder / "config.json").write_text('{"architectures": ["Qwen3ForCausalLM"]}')
    (folder / "tokenizer.json").write_text("{}")
    return sorted(file.name for file in folder.iterdir())


def timed(command: list[str], **more) -> tuple[float, str]:
    "Seconds of a command that has to succeed, and what it printed."
    began = time.perf_counter()
    done = subprocess.run(
        command, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, **more
    )
    return time.perf_counter() - began, done.stdout


class Away:
    "The hub, in a process of its own."

    def __init__(self, folder: Path, speaks: str):
        self.process = subprocess.Popen(
            [sys.executable, "-c", SERVE, str(folder), MODEL, speaks],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.url = self.process.stdout.readline().strip()

    def sent(self) -> int:
        "End it; bytes that left."
        return int(self.process.communicate("")[0])


ADDRESS = {
    "modelscope": f"api/v1/models/{MODEL}/repo?Revision=master&FilePath=",
    "huggingface": f"{MODEL}/resolve/main/",
}


def one_round(
    place: Path, names: list[str], url: str, speaks: str, ours_first: bool
) -> dict[str, float]:
    "Seconds of each way, and our memory in MB."
    target = place / "target"
    own = os.environ | {
        "QWEN_NPU_HOME": str(target / "ours"),
        "MODELSCOPE_ENDPOINT": url,
        "MODELSCOPE_HOME": str(target),
        "MODELSCOPE_CACHE": str(target),
        "HF_HOME": str(target / "hf"),
    }
    own |= {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1"}
    (target / "curl").mkdir(parents=True)
    wanted = [word for name in names for word in ("-o", name, f"{url}/{ADDRESS[speaks]}{name}")]
    found = {}
    for name, many in (("curl", []), ("curl -Z", ["-Z"])):
        found[name] = (
            timed(["curl", "-sS", "--fail", *many, *wanted], cwd=target / "curl")[0]
            + timed(["sha256sum", *names], cwd=target / "curl")[0]
        )
    shutil.rmtree(target / "curl")
    for kind in ("ours", "bare")[:: 1 if ours_first else -1]:
        program = OURS if kind == "ours" else BARE[speaks]
        found[kind], said = timed(
            [sys.executable, "-c", program, MODEL, url, str(target / "bare")], env=own
        )
        if kind == "ours":
            found["memory"] = float(said)
        if kind == "bare":
            shutil.rmtree(target / "bare")
    folder = target / "ours" / "models" / MODEL.replace("/", "--")
    found["verify"] = timed([sys.executable, "-c", VERIFY, str(folder)], env=own)[0]
    found["sha256sum"] = timed(
        ["xargs", "-0", "-n1", f"-P{os.cpu_count()}", "sha256sum"],
        cwd=folder,
        input="\0".join(names),
    )[0]
    shutil.rmtree(target)
    return found


def resumed(place: Path, original: Path, speaks: str) -> tuple[int, int]:
    "Bytes that a run which was killed in the middle and its successor fetched; and the model's."
    hub = Away(original, speaks)
    own = os.environ | {"QWEN_NPU_HOME": str(place / "killed")}
    command = [sys.executable, "-c", OURS, MODEL, hub.url]
    process = subprocess.Popen(command, env=own, stdout=subprocess.DEVNULL)
    total = sum(file.stat().st_size for file in original.iterdir())
    while (
        process.poll() is None
        and sum(file.stat().st_size for file in place.glob("killed/models/owner--*/*.incomplete"))
        < total / 3
    ):
        time.sleep(0.001)
    process.send_signal(signal.SIGKILL)
    process.wait()
    held = sum(file.stat().st_size for file in place.glob("killed/models/owner--*/*"))
    hub.sent()
    again = Away(original, speaks)
    subprocess.run([*command[:-1], again.url], env=own, check=True, stdout=subprocess.DEVNULL)
    return again.sent() - (total - held), held


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--speaks", choices=list(BARE), default="modelscope")
    parser.add_argument("--megabytes", type=int, default=629)
    parser.add_argument("--rounds", type=int, default=6)
    in_memory = "/dev/shm" if os.path.isdir("/dev/shm") else None
    parser.add_argument("--on", default=in_memory, help="a folder on the disk to be used")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.on) as name:
        place = Path(name)
        original = place / "original"
        names = model_of(options.megabytes, original)
        hub = Away(original, options.speaks)
        rounds = [
            one_round(place, names, hub.url, options.speaks, bool(number % 2))
            for number in range(options.rounds + 1)
        ][1:]  # the first fills caches
        hub.sent()
        extra, held = resumed(place, original, options.speaks)

    def ratio(one: str, other: str) -> str:
        return f"{statistics.median(each[one] / each[other] for each in rounds):.2f}"

    for key in ("curl", "curl -Z", "bare", "ours", "verify", "sha256sum"):
        middle = statistics.median(each[key] for each in rounds)
        each_round = ", ".join(f"{each[key]:.2f}" for each in rounds)
        print(f"{key:10} {middle:6.2f} s   (rounds: {each_round})")
    print("a proved model against")
    print(f"  curl and sha256sum:           {ratio('ours', 'curl')} (goal: at most 1.1)")
    print(f"  curl -Z and sha256sum:        {ratio('ours', 'curl -Z')}")
    print(f"  the bare client:              {ratio('ours', 'bare')} (goal: at most 1.0)")
    print("full verify against")
    print(f"  sha256sum on all cores:       {ratio('verify', 'sha256sum')} (goal: at most 1.2)")
    print(f"memory: {max(each['memory'] for each in rounds):.0f} MB (goal: below 150)")
    print(
        f"killed with {held / 1e6:.0f} MB here, then finished: {extra / 1e6:.2f} MB fetched twice"
        " (goal: at most a chunk of a file, 4 files)"
    )


if __name__ == "__main__":
    main()
