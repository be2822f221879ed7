"""The programs that run elsewhere, run as they are: in an interpreter that has nothing of ours.

An archive is fetched from a server on loopback that cuts, stalls, forgets ranges and lies.
"""

import ast
import errno
import hashlib
import io
import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import zipfile
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

import qwen_npu_tut
from qwen_npu_tut.base.files import program
from qwen_npu_tut.engine.plan import FileDone, Step, script_text

FOLDER = Path(qwen_npu_tut.__file__).parent / "programs"
FILES = sorted(each for each in FOLDER.glob("*.py") if each.name != "__init__.py")
RUFF = shutil.which("ruff", path=f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
needs_curl = pytest.mark.skipif(not shutil.which("curl"), reason="curl is not here")


def slow(*case):
    "A case that waits until a server's silence, or its refusals, are over."
    return pytest.param(*case, marks=pytest.mark.slow)


def ran(name: str, *words, **more) -> subprocess.CompletedProcess:
    "A program, in an interpreter that sees no variable, no user's folder and no folder of ours."
    line = [sys.executable, "-I", str(program(name)), *map(str, words)]
    return subprocess.run(line, capture_output=True, text=True, timeout=60, **more)


@pytest.mark.skipif(not RUFF, reason="ruff is not here: the dev extra brings it")
def test_the_linter_has_nothing_to_say():
    done = subprocess.run([RUFF, "check", *map(str, FILES)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("file", FILES, ids=[each.stem for each in FILES])
def test_an_old_python_can_read_it(file):
    "3.9: openEuler's python3, which runs a script's programs where nothing else is."
    text = file.read_text(encoding="utf8")
    assert text.isascii()  # a script that a terminal in GB 18030 printed carries them too
    tree = ast.parse(text, feature_version=(3, 9))
    assert ast.get_docstring(tree)


# Files and folders


def test_a_text_is_laid_whole_and_compared(tmp_path):
    file, text = tmp_path / "new" / "昇腾", "#!/bin/sh\n'quoted' $HOME\n"
    assert ran("same_text", file, text).returncode == 1
    assert ran("lay", file, text, "755").returncode == 0
    assert (file.read_text(), oct(file.stat().st_mode)[-3:]) == (text, "755")
    assert ran("lay", file, "other").returncode == 0
    assert oct(file.stat().st_mode)[-3:] == "644"
    assert [ran("same_text", file, each).returncode for each in ("other", "oth")] == [0, 1]


def test_a_device_is_there_while_what_was_built_is(tmp_path, monkeypatch):
    file, library = tmp_path / "made-of", tmp_path / "2.14.1+cpu.so"

    def codes() -> list[int]:
        return [ran("device_there", file, each).returncode for each in ("these\n", "others\n")]

    assert codes() == [1, 1]
    file.write_text("these\n")
    assert codes() == [1, 1]  # nobody said what was built
    (tmp_path / "made").write_text("native torch 2.14.1\n")
    assert codes() == [1, 1] and "gone" in ran("device_there", file, "these\n").stderr
    (tmp_path / "2.6.0.so").touch()
    assert codes() == [1, 1]
    library.touch()
    assert codes() == [0, 1]
    library.unlink()
    (tmp_path / "made").write_text("mapped\n")
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert codes() == [0, 1]
    monkeypatch.setenv("CXX", sys.executable)  # a program that is there
    assert codes() == [1, 1] and "compiler now" in ran("device_there", file, "these\n").stderr


def test_what_is_kept_is_kept_after_success_alone(tmp_path):
    file = tmp_path / "kept"
    for code in (3, 0):
        ended = ran("keep", file, "yes", sys.executable, "-c", f"raise SystemExit({code})")
        assert (ended.returncode, file.exists()) == (code, code == 0)


def test_a_folder_is_made_anew_and_a_file_is_read_by_a_command(tmp_path):
    (tmp_path / "half" / "made").mkdir(parents=True)
    assert ran("anew", tmp_path / "half", "mkdir", tmp_path / "half").returncode == 0
    assert list((tmp_path / "half").iterdir()) == []
    done = ran("with_file", tmp_path / "rows", "one\ntwo\n", shutil.which("cat"), tmp_path / "rows")
    assert done.stdout == "one\ntwo\n"


def test_deepeps_module_is_linked(tmp_path):
    assert ran("link", tmp_path).returncode == 1
    (tmp_path / "deep_ep").mkdir()
    (tmp_path / "deep_ep" / "deep_ep_cpp.so").write_text("it")
    assert [ran("link", tmp_path).returncode for _ in range(2)] == [0, 0]
    assert (tmp_path / "deep_ep_cpp.so").read_text() == "it"


def test_a_package_that_is_not_there_is_not_laid(tmp_path):
    done = ran("lay_package", tmp_path, tmp_path / "site", "ours-1.0.dist-info", "", "", "")
    assert done.returncode == 1 and "is not in" in done.stderr and "Traceback" not in done.stderr


@pytest.mark.parametrize(
    "pins, code",
    [
        (["ruamel..yaml__x"], 0),
        (["Ruamel.Yaml-X==1.0"], 0),
        (["ruamel-yaml-x==1.0+cpu"], 1),
        (["ruamel-yaml-x==2.0 or 1.0"], 0),
        (["ruamel-yaml-x==absent"], 1),
        (["torch==2.0"], 0),
        (["torch==2.0+cpu", "other==absent"], 0),
        (["ruin"], 1),
        (["ruin==absent"], 0),
    ],
)
def test_versions_are_read_back(tmp_path, pins, code):
    for name, version in (("ruamel..yaml__x", "1.0"), ("torch", "2.0+cpu"), ("ruin", "1.0")):
        about = tmp_path / f"{name}-{version}.dist-info"
        about.mkdir()
        (about / "METADATA").write_text(f"Name: {name}\nVersion: {version}\n")
        if name != "ruin":  # what an interrupted pip leaves has no RECORD
            (about / "RECORD").write_text("")
    line = [sys.executable, str(program("read_back")), *pins]
    done = subprocess.run(line, env={"PYTHONPATH": str(tmp_path)}, timeout=60)
    assert done.returncode == code


# A script where nothing of ours is


def test_a_script_carries_its_programs(tmp_path, monkeypatch):
    "The interpreter of this machine is not there either: python3 is."
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    file, kept = tmp_path / "a file", tmp_path / "kept"
    laying = (sys.executable, str(program("lay")), str(file), "it's $HOME\n")
    keeping = (sys.executable, str(program("keep")), str(kept), "k", "test", "-f", str(file))
    steps = [
        Step("lay", "A file.", laying, FileDone(file, "it's $HOME\n")),
        Step("keep", "Another.", keeping, FileDone(kept, "k")),
    ]
    text = script_text(steps, "Two files.")
    assert str(FOLDER) not in text and text.count("END_OF_PROGRAM") == 2 * 3
    (tmp_path / "temporary").mkdir()
    there = {"PATH": os.environ["PATH"], "TMPDIR": str(tmp_path / "temporary")}
    for expected in (["lay: to do", "keep: to do"], ["lay: done", "keep: done"]):
        done = subprocess.run(
            ["bash", "-c", text], env=there, cwd="/", capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stdout.splitlines()) == (0, expected), done.stderr
    assert list((tmp_path / "temporary").iterdir()) == []  # and leaves nothing of them


def test_a_script_carries_what_its_programs_say(tmp_path):
    "In both languages, and in ASCII, as the programs are."
    file = tmp_path / "kernels.zip"
    looking = (sys.executable, str(program("archive")), "look", str(file))
    text = script_text([Step("look", "It looks.", looking, FileDone(file))], "One step.")
    assert {"archive.py", "said.py", "said.json"} == set(re.findall(r'programs"/(\S+) <<', text))
    assert text.isascii()
    for language, told in (("en_US.UTF-8", "is not there."), ("zh_CN.UTF-8", "不存在。")):
        there = {"PATH": os.environ["PATH"], "LANG": language}
        line = ["bash", "-c", text]
        done = subprocess.run(line, env=there, cwd="/", capture_output=True, text=True, timeout=60)
        assert done.returncode == 1 and f"{file} {told}" in done.stderr


# What they say

SAID = json.loads(program("said.json").read_text(encoding="utf8"))
HAN = re.compile("[\u3400-\u9fff]")
NAMED = [each for file in FILES for each in re.findall(r"said\(\s*\"([\w-]+)\"", file.read_text())]


def test_every_row_is_named_and_every_name_has_a_row():
    assert sorted({*NAMED}) == sorted(SAID)


@pytest.mark.parametrize("file", FILES, ids=[each.stem for each in FILES])
def test_no_program_has_a_sentence_of_its_own(file):
    "What is printed, or said at the end, comes from the table; `probe ok:` is for check to read."
    for node in ast.walk(ast.parse(file.read_text(encoding="utf8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) in ("print", "sys.exit"):
            own = [each for each in node.args if isinstance(each, ast.Constant | ast.JoinedStr)]
            texts = [each for each in map(ast.unparse, own) if re.search("[A-Za-z]{2} ", each)]
            assert texts in ([], ["'probe ok:'"])


def test_a_program_speaks_the_readers_language(sites, tmp_path):
    source, target = sites
    for variables, told in (
        ({"LANG": "zh_CN.UTF-8", "QWEN_NPU_LANG": ""}, "已链接 8 个文件"),
        ({"LANG": "zh_CN.UTF-8", "QWEN_NPU_LANG": "en"}, "0 files linked"),
        ({"LANG": "C", "QWEN_NPU_LANG": "zh"}, "已链接 0 个文件"),
    ):
        env = {**os.environ, "LC_ALL": "", "LC_MESSAGES": "", **variables}
        done = ran("link_tree", source, target, "qwen_npu_tut", env=env)
        assert (done.returncode, done.stdout.partition("，")[0].partition(",")[0]) == (0, told)


def test_a_terminal_of_ascii_gets_english(tmp_path):
    env = {**os.environ, "QWEN_NPU_LANG": "zh", "PYTHONIOENCODING": "ascii"}
    line = [sys.executable, str(program("archive")), "look", str(tmp_path / "none")]
    done = subprocess.run(line, env=env, capture_output=True, text=True)
    assert done.returncode == 1 and "is not there" in done.stderr


# An archive


@contextmanager
def release(data: bytes, fault: str = ""):
    "A server of one archive: its address, and the ranges that it was asked for."
    asked, ended = [], threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            begin = re.match(r"bytes=(\d+)-", self.headers.get("Range", ""))
            first = not asked
            asked.append(int(begin[1]) if begin else 0)
            start = asked[-1] if fault != "no ranges" else 0
            if fault in ("404", "503"):
                return self.send_error(int(fault))
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206 if start else 200)
            self.send_header("Content-Length", str(len(data) - start))
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            half = first and fault in ("cut", "stall", "no ranges")
            self.wfile.write(data[start : len(data) // 2] if half else data[start:])
            self.wfile.flush()
            if first and fault == "stall":
                ended.wait(30)

        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/kernels.zip", asked
    finally:
        ended.set()
        server.shutdown()
        server.server_close()


@pytest.fixture
def archive(tmp_path):
    "An archive's bytes, its digest, and where it shall lie."
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as zipped:
        zipped.writestr("sgl_kernel_npu.whl", os.urandom(200_000))
    data = packed.getvalue()
    return data, hashlib.sha256(data).hexdigest(), tmp_path / "src" / "kernels.zip"


@needs_curl
@pytest.mark.parametrize("fault, patience", [("cut", 30), slow("stall", 2)])
def test_what_is_cut_or_stands_still_is_resumed(archive, fault, patience):
    data, digest, file = archive
    with release(data, fault) as (address, asked):
        done = ran("archive", "fetch", file, address, "--patience", patience)
    assert done.returncode == 0, done.stderr
    assert asked == [0, len(data) // 2] and file.read_bytes() == data
    assert digest in done.stdout and "This one is kept" in done.stdout
    assert Path(f"{file}.sha256").read_text() == f"{digest}  kernels.zip\n"


@needs_curl
def test_what_an_ended_run_has_brought_is_kept(archive):
    data, digest, file = archive
    file.parent.mkdir()
    Path(f"{file}.part").write_bytes(data[:1000])
    with release(data) as (address, asked):
        assert ran("archive", "fetch", file, address, "--sha256", digest).returncode == 0
    assert asked == [1000] and file.read_bytes() == data
    assert not Path(f"{file}.sha256").exists()  # stacks.toml knows it


@needs_curl
@pytest.mark.parametrize("fault", ["no ranges", ""])
def test_a_server_that_cannot_go_on_begins_anew(archive, fault):
    data, digest, file = archive
    file.parent.mkdir()
    part = data[:1000] if fault else data + b"too long"  # the second is answered by 416
    Path(f"{file}.part").write_bytes(part)
    with release(data, fault) as (address, _):
        done = ran("archive", "fetch", file, address, "--sha256", digest)
    assert done.returncode == 0 and file.read_bytes() == data, done.stderr


@needs_curl
def test_other_bytes_are_refused(archive):
    data, digest, file = archive
    with release(b"other bytes") as (address, _):
        done = ran("archive", "fetch", file, address, "--sha256", digest)
    assert done.returncode == 1 and digest in done.stderr and "removed" in done.stderr
    assert list(file.parent.iterdir()) == [] and "Traceback" not in done.stderr
    with release(data) as (address, _):
        assert ran("archive", "fetch", file, address, "--sha256", digest).returncode == 0


@needs_curl
def test_the_first_downloads_digest_holds_from_then_on(archive):
    data, digest, file = archive
    with release(data) as (address, _):
        assert ran("archive", "fetch", file, address).returncode == 0
    assert ran("archive", "look", file).returncode == 0
    file.write_bytes(data[:-1])
    changed = ran("archive", "look", file)
    assert changed.returncode == 1 and f"not {digest}" in changed.stderr
    with release(b"another release") as (address, _):
        done = ran("archive", "fetch", file, address)
    assert done.returncode == 1 and digest in done.stderr
    with release(data) as (address, _):
        assert ran("archive", "fetch", file, address).returncode == 0
    assert ran("archive", "look", file).returncode == 0


@needs_curl
@pytest.mark.parametrize(
    "fault, tries, words", [("404", 1, "404"), slow("503", 4, "goes on there")]
)
def test_what_a_server_refuses_is_said(archive, fault, tries, words):
    data, _, file = archive
    with release(data, fault) as (address, asked):
        done = ran("archive", "fetch", file, address)
    assert done.returncode == 1 and words in done.stderr and len(asked) == tries
    assert "Traceback" not in done.stderr and not file.exists()


def test_an_archive_that_somebody_brought_has_to_be_whole(archive):
    data, digest, file = archive
    assert "is not there" in ran("archive", "look", file).stderr
    file.parent.mkdir()
    for brought, whole in ((data, True), (data[: len(data) // 2], False), (b"", False)):
        file.write_bytes(brought)
        assert (ran("archive", "look", file).returncode == 0) == whole
    file.write_bytes(data)
    assert ran("archive", "look", file, "--sha256", digest).returncode == 0
    assert ran("archive", "look", file, "--sha256", "0" * 64).returncode == 1


# An engine that shares another's files


def small_site(folder: Path, version: str = "1.0") -> Path:
    "A site-packages folder: a package, a link inside it, pip, and a package that is not shared."
    for name, text in {
        "one/__init__.py": f"version = {version!r}",
        "one/data/weights.bin": "x" * 5000,
        f"one-{version}.dist-info/RECORD": "one",
        "pip-26.0.dist-info/RECORD": "pip",
        "pip/__init__.py": "",
        "qwen_npu_tut/__init__.py": "",
        "qwen_npu_tut-0.1.0.dist-info/RECORD": "ours",
        "alone.py": "",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    (folder / "one" / "link.py").symlink_to("__init__.py")
    (folder / "one" / "also").symlink_to("data")
    return folder


def tree(folder: Path) -> dict[str, bytes | str]:
    "What lies below a folder, but for the package that is not shared: bytes, or where it leads."
    return {
        str(path.relative_to(folder)): os.readlink(path) if path.is_symlink() else path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if (path.is_symlink() or path.is_file()) and "qwen_npu_tut" not in str(path)
    }


@pytest.fixture
def sites(tmp_path):
    "A small site, and an empty one that has a package of its own."
    source, target = small_site(tmp_path / "source"), tmp_path / "target"
    own = target / "qwen_npu_tut" / "own.py"
    own.parent.mkdir(parents=True)
    own.write_text("own")
    return source, target


def test_a_site_is_linked_but_for_one_package(sites):
    source, target = sites
    done = ran("link_tree", source, target, "qwen_npu_tut")
    assert (done.returncode, done.stdout.split(",")[0]) == (0, "8 files linked"), done.stderr
    assert tree(target) == tree(source)
    assert (target / "one" / "data" / "weights.bin").samefile(source / "one/data/weights.bin")
    assert [each.name for each in (target / "qwen_npu_tut").iterdir()] == ["own.py"]
    assert not list(target.glob("qwen_npu_tut-*"))
    again = ran("link_tree", source, target, "qwen_npu_tut")
    assert again.stdout == "0 files linked, 0 copied, 8 were there, 0 removed.\n"


@pytest.mark.parametrize("gone", ["source", "target"])
def test_removing_either_site_leaves_the_other_whole(sites, gone):
    source, target = sites
    ran("link_tree", source, target, "qwen_npu_tut")
    before = tree(source)
    shutil.rmtree(source if gone == "source" else target)
    assert tree(target if gone == "source" else source) == before


def test_a_newer_site_replaces_files_and_writes_into_none(sites, tmp_path):
    source, target = sites
    ran("link_tree", source, target, "qwen_npu_tut")
    old, held = (source / "one" / "__init__.py").read_bytes(), tmp_path / "a third name"
    os.link(source / "one" / "__init__.py", held)
    shutil.rmtree(source)
    small_site(source, "2.0")
    (source / "alone.py").unlink()
    done = ran("link_tree", source, target, "qwen_npu_tut")
    assert done.returncode == 0 and tree(target) == tree(source)
    assert not (target / "one-1.0.dist-info").exists() and not (target / "alone.py").exists()
    assert held.read_bytes() == old and (target / "qwen_npu_tut" / "own.py").is_file()


def in_this_process(monkeypatch, *words) -> None:
    "link_tree with what a test put in the place of the system's functions."
    monkeypatch.setattr(sys, "argv", ["link_tree.py", *map(str, words)])
    runpy.run_path(str(program("link_tree")))


def test_what_was_interrupted_has_no_record_and_goes_on(sites, monkeypatch):
    "Every file in turn is the one at which it ends: no RECORD stands before all files do."
    source, target = sites
    link, left = os.link, [0]

    def ends_soon(*place, **more):
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        link(*place, **more)

    for count in range(8):
        left[0] = count
        with monkeypatch.context() as patches, pytest.raises(KeyboardInterrupt):
            patches.setattr(os, "link", ends_soon)
            in_this_process(patches, source, target, "qwen_npu_tut")
        files = [name for name in tree(source) if not name.endswith("RECORD")]
        if list(target.glob("*.dist-info/RECORD")):
            assert all(os.path.lexists(target / name) for name in files)
        if count < 7:
            shutil.rmtree(target)
    assert ran("link_tree", source, target, "qwen_npu_tut").stdout.startswith("1 files linked")
    assert tree(target) == tree(source)


def test_without_hard_links_files_are_copied(sites, monkeypatch, capsys):
    source, target = sites

    def refused(*place, **more):
        raise OSError(errno.EPERM, "no hard links here")

    for told in ("0 files linked, 8 copied", "0 files linked, 0 copied, 8 were there"):
        with monkeypatch.context() as patches:
            patches.setattr(os, "link", refused)
            in_this_process(patches, source, target, "qwen_npu_tut")
        assert capsys.readouterr().out.startswith(told)
    assert tree(target) == tree(source)
    assert not (target / "alone.py").samefile(source / "alone.py")


def test_a_site_that_is_not_there_is_said(tmp_path):
    done = ran("link_tree", tmp_path / "nowhere", tmp_path / "target", "qwen_npu_tut")
    assert done.returncode == 1 and "has to be installed first" in done.stderr
