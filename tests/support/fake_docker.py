"""A stand-in for docker, as far as an engine needs it: pull, image inspect, run, rm.

What runs "inside" sees only the folders and variables that the line gives it. State lies in the
folder named by FAKE_DOCKER, one file an image and one a container. FAKE_DOCKER/fault holds `denied`
or `full` where it shall fail.
"""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

STATE = Path(os.environ["FAKE_DOCKER"])
WITH_VALUE = ("--device", "--volume", "--env", "--name", "--group-add")
TORCH_NPU = Path(os.environ["FAKE_DOCKER"], "inside")  # torch and torch_npu of the image


def image_file(image: str) -> Path:
    return STATE / "images" / image.replace("/", "_")


def fail(words: str) -> None:
    print(words, file=sys.stderr)
    sys.exit(1)


def pull(image: str) -> None:
    print(f"Pulling from {image}", flush=True)
    if fault() == "full":
        fail(
            "failed to register layer: write /usr/local/Ascend/cann/lib64/libhccl.so: "
            "No space left on device"
        )
    time.sleep(0.2)
    image_file(image).parent.mkdir(parents=True, exist_ok=True)
    image_file(image).touch()


def fault() -> str:
    file = STATE / "fault"
    return file.read_text() if file.exists() else ""


def run(words: list[str]) -> None:
    given: dict[str, list[str]] = {name: [] for name in WITH_VALUE}
    while words and words[0].startswith("-"):
        word = words.pop(0)
        given.setdefault(word, [])
        if word in WITH_VALUE:
            given[word].append(words.pop(0))
    image, program, *arguments = words
    (STATE / "last.json").write_text(
        json.dumps({"image": image, "program": program, "arguments": arguments, "given": given})
    )
    if not image_file(image).exists():
        fail(f"Unable to find image '{image}' locally")
    name, visible = given["--name"][0], [each.split(":")[0] for each in given["--volume"]]
    container = STATE / "containers" / name
    container.parent.mkdir(exist_ok=True)
    if container.exists():
        fail(
            "docker: Error response from daemon: Conflict. "
            f'The container name "/{name}" is already in use'
        )
    for word in arguments:  # a path of the host that was not given is not there
        if (
            word.startswith("/")
            and os.path.exists(word)
            and not any(word.startswith(each) for each in visible)
        ):
            fail(f"FileNotFoundError: {word}")
    inside = {
        "PATH": os.environ["PATH"],
        "PYTHONPATH": str(TORCH_NPU),
        "ASCEND_HOME_PATH": "/usr/local/Ascend/cann",
        **{each: os.environ[each] for each in given["--env"] if each in os.environ},
    }
    if arguments[:1] == ["-m"]:
        arguments = [str(Path(__file__).with_name("fake_engine.py")), *arguments[2:]]
    process = subprocess.Popen(
        [sys.executable, *arguments], env=inside, start_new_session=True
    )  # the daemon's child, not ours: it outlives this client
    container.write_text(str(process.pid))
    signal.signal(signal.SIGTERM, lambda *_: process.terminate())
    code = process.wait()
    container.unlink(missing_ok=True)
    sys.exit(code if code >= 0 else 128 - code)


def remove(name: str) -> None:
    container = STATE / "containers" / name
    if not container.exists():
        return
    try:
        os.killpg(int(container.read_text()), signal.SIGKILL)
    except ProcessLookupError:
        pass
    container.unlink(missing_ok=True)


if __name__ == "__main__":
    if fault() == "denied":
        fail(
            "permission denied while trying to connect to the Docker daemon socket at "
            "unix:///var/run/docker.sock"
        )
    match sys.argv[1:]:
        case ["pull", image]:
            pull(image)
        case ["image", "inspect", "--format", _, image]:
            sys.exit(0 if image_file(image).exists() else 1)
        case ["run", *words]:
            run(words)
        case ["rm", "--force", name]:
            remove(name)
        case other:
            fail(f"unknown command {other}")
