"The door: what opens it, what keeps it shut, and how the native device is built."

import re
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch

from qwen_npu_tut.rehearsal.emulated import memory, switch

ROOT = Path(__file__).resolve().parents[2]
PROGRAM = ROOT / "qwen_npu_tut" / "programs" / "build_device.py"
WING = ROOT / "qwen_npu_tut" / "rehearsal" / "emulated"
OURS = ("torch_npu", "torchair", "sgl_kernel_npu", "acl")


@pytest.mark.parametrize("value", [None, "true"])
def test_without_the_variable_there_is_no_npu(python, value):
    program = f"""
import importlib.util, torch
print(hasattr(torch, "npu"), [importlib.util.find_spec(name) for name in {OURS}])
"""
    ran = python(program, NPU_EMULATED=value)
    assert ran.stdout == "False [None, None, None, None]\n", ran.stderr


def test_with_it_they_are_there_and_say_what_they_are(python):
    program = f"""
import importlib.util, torch, torch_npu
print(all(importlib.util.find_spec(name) for name in {OURS}), torch_npu.__version__)
print(torch.npu.get_device_name(), torch.npu.device_count(), torch.zeros(1, device="npu").device)
"""
    ran = python(program, NPU_EMULATED="1")
    wanted = "True 0.0.0+emulated\nAscend910B3 (emulated) 8 npu:0\n"
    assert (ran.stdout, ran.stderr) == (wanted, "")


@pytest.mark.parametrize("name", ["torch-npu", "torch_npu", "Torch.NPU"])
def test_it_stays_away_from_an_installed_torch_npu(monkeypatch, tmp_path, name):
    about = tmp_path / "torch_npu-2.9.0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 2.9.0\n")
    assert switch.real_npu() == ""
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(RuntimeError) as refused:
        switch.activate()
    assert str(refused.value) == switch.said("real-npu", what=name)


def test_it_stays_away_from_the_sources_of_torch_npu(tmp_path, python):
    "A folder of sources on the path has no metadata, and would be imported before ours."
    module = tmp_path / "sources" / "torch_npu" / "__init__.py"
    module.parent.mkdir(parents=True)
    module.touch()
    program = f"import sys; sys.path.insert(0, {str(module.parents[1])!r}); import torch"
    ran = python(program, NPU_EMULATED="1")
    assert ran.returncode == 1 and switch.said("real-npu", what=module) in ran.stderr


def test_it_stays_away_from_a_device_file(monkeypatch, tmp_path):
    found = switch.real_npu
    (tmp_path / "davinci_manager").touch()
    assert found(tmp_path) == ""
    (tmp_path / "davinci12").touch()
    assert found(tmp_path) == str(tmp_path / "davinci12")
    monkeypatch.setattr(switch, "real_npu", lambda: found(tmp_path))
    with pytest.raises(RuntimeError, match="davinci12"):
        switch.activate()


WRONG = {
    "NPU_EMULATED_CHIP": "A9",
    "NPU_EMULATED_COUNT": "two",
    "NPU_EMULATED_TOTAL_MB": "-5",
    "NPU_EMULATED_USED_MB": "1.5",
    "NPU_EMULATED_LOADED_MB": "much",
}


@pytest.fixture
def chip(monkeypatch):
    "The chip that variables make."

    def make(**variables):
        for name, value in variables.items():
            monkeypatch.setenv(name, value)
        memory.chip.cache_clear()
        return memory.chip()

    yield make
    monkeypatch.undo()
    memory.chip.cache_clear()


def test_no_device_at_all_is_refused(chip):
    with pytest.raises(RuntimeError, match="NPU_EMULATED_COUNT is '0'; .* 1 or more"):
        chip(NPU_EMULATED_COUNT="0")


@pytest.mark.parametrize("name", WRONG)
def test_a_wrong_variable_is_refused_by_its_name(chip, name):
    with pytest.raises(RuntimeError, match=f"{name} is '{re.escape(WRONG[name])}'"):
        chip(**{name: WRONG[name]})


def test_a_refusal_ends_the_process(python):
    ran = python("import torch\nprint('went on')", NPU_EMULATED="1", NPU_EMULATED_DEVICE="real")
    assert ran.returncode == 1 and ran.stdout == ""
    assert f"RuntimeError: {switch.said('no-such-way', way='real')}\n" in ran.stderr


@pytest.mark.parametrize("name", ["A2", "A3", "910B4"])
def test_chips_are_the_rows_of_the_table(chip, name):
    file = ROOT / "qwen_npu_tut" / "devices.toml"
    row = tomllib.loads(file.read_text(encoding="utf8"))["chips"][name]
    made = chip(NPU_EMULATED_CHIP=name)
    assert (made.name, made.devices) == (row["name"], row["devices"])
    assert made.total == row["total_mib"] * 2**20
    assert abs((made.total - made.used) / 2**30 - row["free_gib"]) < 0.001


def test_variables_replace_what_a_chip_has(chip):
    sizes = {"TOTAL_MB": "1000", "USED_MB": "10", "LOADED_MB": "5", "COUNT": "2"}
    made = chip(**{f"NPU_EMULATED_{name}": value for name, value in sizes.items()})
    megabytes = [each / 2**20 for each in (made.total, made.used, made.loaded)]
    assert (megabytes, made.devices) == ([1000, 10, 5], 2)


MAPPED = """
import os, subprocess, sys
from pathlib import Path
from qwen_npu_tut.rehearsal.emulated import switch
os.environ["NPU_EMULATED"] = "1"
switch.library = lambda: Path("/nowhere.so")
import torch
print(torch.zeros(1, device="npu").device, os.environ["NPU_EMULATED_DEVICE"])
sys.stdout.flush()
child = "import torch; print(torch.zeros(1, device='npu').device)"
subprocess.run([sys.executable, "-c", child])
"""


def test_mapped_is_said_once_by_the_first_process(python):
    ran = python(MAPPED)
    assert ran.stdout == "cpu mapped\ncpu\n", ran.stderr
    assert ran.stderr == switch.said("mapped") + "\n"


def test_native_without_its_library_is_refused(monkeypatch):
    monkeypatch.setattr(switch, "library", lambda: Path("/nowhere.so"))
    monkeypatch.setenv("NPU_EMULATED_DEVICE", "native")
    with pytest.raises(RuntimeError, match="/nowhere.so"):
        switch.way()


def test_a_library_of_another_torch_is_not_taken(monkeypatch):
    here = switch.library()
    assert here.is_file() and here.name == f"{torch.__version__}.so"
    monkeypatch.setattr(torch, "__version__", "2.99.0")
    assert switch.library().parent == here.parent and not switch.library().exists()


def test_every_sentence_is_there_and_each_is_used():
    texts = switch.sentences()
    assert all(row["en"] and row["zh"] and set(row) == {"en", "zh"} for row in texts.values())
    sources = "".join(path.read_text(encoding="utf8") for path in WING.glob("*.py"))
    assert set(re.findall(r'\b(?:said|text)\(\s*"([\w-]+)"', sources)) == set(texts)
    given = re.findall(r'(?:lacking|fits|within)\(\s*[\w"]+, (?:word\()?"([^"]+)"', sources)
    words = switch.sentences("words")
    assert set(words) <= set(given)
    assert not [each for each in given if " " in each and each not in words]
    for row in (*texts.values(), *words.values()):
        values = set(re.findall(r"{(\w+)", row["en"]))
        assert set(re.findall(r"{(\w+)", row["zh"])) == values


def test_it_speaks_the_readers_language(monkeypatch):
    for name in ("QWEN_NPU_LANG", "LC_ALL", "LC_MESSAGES"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("LANG", "zh_CN.UTF-8")
    texts = switch.sentences()
    for name, row in texts.items():
        assert switch.text(name) == row["zh"]
        assert re.search("[\u4e00-\u9fff]", row["zh"]) or name == "out-of-memory"
    assert texts["out-of-memory"]["zh"] == texts["out-of-memory"]["en"], "torch_npu's own words"
    assert switch.word("odd columns", count=3) == "奇数列（3 列）"
    assert switch.word("atten_mask") == "atten_mask"
    monkeypatch.setenv("QWEN_NPU_LANG", "en")
    assert switch.text("mapped") == texts["mapped"]["en"]


def test_a_terminal_of_ascii_gets_english(python):
    variables = {"QWEN_NPU_LANG": "zh", "PYTHONIOENCODING": "ascii", "NPU_EMULATED": "1"}
    ran = python("import torch", NPU_EMULATED_DEVICE="real", **variables)
    said = switch.sentences()["no-such-way"]["en"].format(way="real")
    assert ran.returncode == 1 and said in ran.stderr


@pytest.mark.parametrize("language", ["en", "zh"])
def test_the_native_device_says_it_in_either_language(python, language):
    variables = {"QWEN_NPU_LANG": language, "NPU_EMULATED": "1"}
    ran = python("import torch; torch.zeros(1, device='npu:77')", **variables)
    said = switch.sentences()["no-such-device"][language].format(device=77, last=7)
    assert ran.returncode == 1 and said[:20] in ran.stderr, ran.stderr


# --- the program that builds the native device ------------------------------------------------


@pytest.fixture
def prefix(tmp_path, engine_python):
    "An environment whose torch is the engine's, by links: what is built there is nobody else's."
    site = tmp_path / "lib" / "python3" / "site-packages"
    site.mkdir(parents=True)
    for path in Path(torch.__file__).parents[1].iterdir():
        if path.name != "torch":
            (site / path.name).symlink_to(path)
    (site / "torch").mkdir()
    for path in Path(torch.__file__).parent.iterdir():
        (site / "torch" / path.name).symlink_to(path)

    def build(*words, **variables):
        given = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(site), **variables}
        return subprocess.run(
            [engine_python, str(PROGRAM), *words], env=given, capture_output=True, text=True
        )

    return tmp_path, build


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in (folder / "npu-device").iterdir())


def test_without_a_compiler_the_device_is_mapped(prefix):
    folder, build = prefix
    ran = build(CXX="no-such-compiler")
    assert (ran.returncode, files(folder)) == (0, ["made"])
    assert (folder / "npu-device" / "made").read_text() == "mapped\n"
    assert "no-such-compiler" in ran.stdout and "mapped" in ran.stdout


def test_a_compiler_that_fails_leaves_nothing(prefix, tmp_path):
    folder, build = prefix
    broken = tmp_path / "device.cpp"
    broken.write_text("#error it is broken\n")
    old = folder / "npu-device" / f"{torch.__version__}.so"
    for words, variables in (((str(broken),), {}), ((), {"CXX": "false"})):
        old.parent.mkdir(exist_ok=True)
        old.write_text("of an older making")
        (old.parent / "made").write_text("native torch 2.14.1\n")
        ran = build(*words, **variables)
        assert (ran.returncode, files(folder)) == (1, [])
        assert "failed with 1" in ran.stderr and "Traceback" not in ran.stderr
        assert ("it is broken" in ran.stderr) is bool(words)


@pytest.mark.slow
def test_it_is_built_for_this_torch(prefix):
    folder, build = prefix
    ran = build(CXX=" ")  # as good as unset
    assert ran.returncode == 0, ran.stderr
    assert files(folder) == [f"{torch.__version__}.so", "made"]
    release = torch.__version__.partition("+")[0]
    assert (folder / "npu-device" / "made").read_text() == f"native torch {release}\n"
