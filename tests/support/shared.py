"What long proofs share: the user's engine by hard links, and addresses at which nothing is given."

import os
import shutil
import socketserver
import threading
from collections.abc import Mapping
from pathlib import Path


def without_ours(base: Mapping[str, str]) -> dict[str, str]:
    "An environment without settings of ours."
    return {name: value for name, value in base.items() if not name.startswith("QWEN_NPU_")}


def link(old: str, new: str) -> None:
    "A second name for a file; a copy where it lies on another disk."
    try:
        os.link(old, new)
    except OSError:
        shutil.copy2(old, new)


def share_engine(stacks: Path, to: Path) -> None:
    "The stack cpu for another home. Without our plugin: its files are written in place."
    shutil.copytree(
        stacks / "cpu",
        to / "cpu",
        symlinks=True,
        copy_function=link,
        ignore=shutil.ignore_patterns("qwen_npu_tut*"),
    )


class Refusing(socketserver.ThreadingTCPServer):
    "A package index, a hub and a proxy at one address: it counts who comes, and gives nothing."

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), socketserver.BaseRequestHandler)
        self.came = 0

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.shutdown()
        self.server_close()

    def process_request(self, request, client_address):
        self.came += 1
        self.shutdown_request(request)

    def environment_from(self, base: Mapping[str, str]) -> dict[str, str]:
        "Without settings of ours; pip, both hub clients and every other request are sent here."
        url = f"http://127.0.0.1:{self.server_address[1]}"
        indexes = dict.fromkeys(("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"), f"{url}/simple")
        hubs = dict.fromkeys(("QWEN_NPU_ENDPOINT", "MODELSCOPE_ENDPOINT", "HF_ENDPOINT"), url)
        proxies = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), url)
        here = dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1,localhost")
        none = {"PIP_CONFIG_FILE": os.devnull, "PIP_FIND_LINKS": ""}
        return without_ours(base) | indexes | hubs | proxies | here | none
