"""Wheels of a few hundred bytes, and a package index on loopback that serves them, well or badly.

Source archives too.
"""

import base64
import hashlib
import threading
import time
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote


def make_wheel(
    folder: Path,
    name: str,
    version: str,
    tag: str = "py3-none-any",
    requires: tuple[str, ...] = (),
    extras: tuple[str, ...] = (),
    code: str = "",
    module: str = "",
) -> Path:
    "A wheel with one module, of its name if no other is given."
    plain = name.replace("-", "_")
    about = f"{plain}-{version}.dist-info"
    metadata = "".join(
        [
            "Metadata-Version: 2.1\n",
            f"Name: {name}\n",
            f"Version: {version}\n",
            *(f"Provides-Extra: {each}\n" for each in extras),
            *(f"Requires-Dist: {each}\n" for each in requires),
        ]
    )
    files = {
        f"{module or plain}/__init__.py": code,
        f"{about}/METADATA": metadata,
        f"{about}/WHEEL": f"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: {tag}\n",
    }

    def row(path: str, text: str) -> str:
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode()
        return f"{path},sha256={digest.rstrip('=')},{len(text)}"

    lines = [row(path, text) for path, text in files.items()]
    files[f"{about}/RECORD"] = "\n".join([*lines, f"{about}/RECORD,,", ""])
    wheel = folder / f"{plain}-{version}-{tag}.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    return wheel


def sha256(file: Path) -> str:
    return hashlib.sha256(file.read_bytes()).hexdigest()


@contextmanager
def index(folder: Path, fault: str = "", hashes: bool = False):
    """A simple index (PEP 503) of a folder's wheels and archives (.tar.gz).

    Each has its SHA-256 where `hashes` says so. Faults: `page` answers a login page, `403`, `500`,
    `empty`, `hang`, `hash` lists wrong hashes, `half` ends each file in its middle."""

    def mark(wheel: Path) -> str:
        if fault == "hash":
            return "#sha256=" + "0" * 64
        return f"#sha256={sha256(wheel)}" if hashes else ""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            if fault in ("403", "500"):
                return self.send_error(int(fault))
            if fault == "hang":
                time.sleep(4)
            name = unquote(self.path.strip("/").split("/")[-1])
            if name.endswith((".whl", ".tar.gz")):
                return self.answer(
                    (folder / name).read_bytes(), "application/octet-stream", fault == "half"
                )
            if fault == "page":
                return self.answer(b"<html><body>Please log in</body></html>", "text/html")
            found = [
                wheel
                for wheel in sorted([*folder.glob("*.whl"), *folder.glob("*.tar.gz")])
                if wheel.name.split("-")[0] == name.replace("-", "_").lower()
            ]
            if not found or fault == "empty":
                return self.send_error(404)
            links = [f'<a href="/files/{each.name}{mark(each)}">{each.name}</a>' for each in found]
            self.answer("".join(links).encode(), "text/html")

        def answer(self, body: bytes, kind: str, half: bool = False):
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body[: len(body) // 2] if half else body)

        do_HEAD = do_GET

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/simple"
    finally:
        server.shutdown()
        server.server_close()
