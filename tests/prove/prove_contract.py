"""The whole contract before the CPU engine, with a key, and before a second, different server.

That is transformers' own. Run by `make prove`."""

import os
import subprocess
import sys
import time

import httpx
import pytest
from patience import patient

from qwen_npu_tut.server import lifecycle as serve
from qwen_npu_tut.server.client import Endpoint
from qwen_npu_tut.contract import contract
from qwen_npu_tut.server.processes import birth, end_session, free_port
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.walk import choose, fetch, serving


def table(found) -> dict[str, str]:
    for each in found:
        print(f"{each.id:28} {each.result:12} {each.evidence[:100]}")
    return {each.id: each.result for each in found}


def test_the_engine_with_a_key():
    fetch(choose())
    chosen = choose(server="prove-contract", port=0, api_key="sk-prove", stack="cpu")
    server = serve.start(serving(chosen))
    try:
        results = table(contract(Endpoint(server.url, "sk-prove", retries=0)))
    finally:
        serve.stop(server)
    assert {name for name, result in results.items() if result != "pass"} == {"unknown-model-404"}


@pytest.fixture(scope="module")
def transformers_serve(tmp_path_factory):
    "`transformers serve` in an environment of its own, with the teaching model."
    folder = tmp_path_factory.mktemp("transformers")
    subprocess.run([sys.executable, "-m", "venv", folder / "env"], check=True)
    subprocess.run(
        [
            folder / "env/bin/python",
            "-m",
            "pip",
            "-q",
            "--disable-pip-version-check",
            "install",
            "transformers[serving]==5.19.0",
            "requests",
            f"torch=={stacks()['cpu'].version('torch')}",
        ],
        check=True,
    )
    (folder / "hub").mkdir()
    model, port = fetch(choose()), free_port("127.0.0.1", 0)
    line = [
        str(folder / "env/bin/transformers"),
        "serve",
        str(model),
        "--device",
        "cpu",
        "--host",
        "127.0.0.1",
        "--port",
        str(port),
    ]
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen(
            line,
            stdout=log,
            stderr=log,
            start_new_session=True,
            env={
                **os.environ,
                "HF_HUB_OFFLINE": "1",
                "HF_HUB_CACHE": str(folder / "hub"),
                "CUDA_VISIBLE_DEVICES": "",
            },
        )
    born, deadline = birth(process.pid), time.monotonic() + patient(180)
    try:
        while True:
            try:
                if (
                    httpx.get(f"http://127.0.0.1:{port}/v1/models", trust_env=False).status_code
                    == 200
                ):
                    break
            except httpx.HTTPError:
                pass
            assert process.poll() is None and time.monotonic() < deadline, (
                folder / "log"
            ).read_text()[-1500:]
            time.sleep(0.5)
        yield f"http://127.0.0.1:{port}", str(model)
    finally:
        end_session(process.pid, born, grace=5)
        process.wait()


def test_another_server_breaks_it(transformers_serve):
    url, model = transformers_serve
    results = table(contract(Endpoint(url, model=model, retries=0)))
    assert results["chat"] == "pass" and "fail" in results.values()
