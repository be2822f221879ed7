"""What a release asks of an emulated NPU: made-up releases, and an engine that is a few files.

The stand-in for an engine is this interpreter with a site-packages folder of its own before ours:
a torch that is empty, an emulation that offers three names, and a small SGLang 1.0."""

import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import pytest
from wheels import index, make_wheel

from qwen_npu_tut.base.events import Problem, table
from qwen_npu_tut.base.files import program
from qwen_npu_tut.engine.drift import rehearse
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.system import Host

OFFERED = ["torch_npu.npu_rms_norm", "torch.npu.Event", "torch_npu.profiler.profile"]
LINE = ["python", "-m", "sglang.launch_server", "--model-path", "/no/where", "--port", "30000"]
LINE += ["--attention-backend", "ascend", "--reasoning-parser", "qwen3", "--enable-metrics"]
NORM = "import torch_npu\n\n\ndef norm(x):\n    return torch_npu.npu_rms_norm(x)\n"
FLAGS = """
class ServerArgs:
    def add_cli_args(parser):
        parser.add_argument("--model-path", "--model", type=str)
        parser.add_argument("--port", type=int)
        parser.add_argument("--enable-metrics", action="store_true")
        parser.add_argument("--attention-backend", choices=["ascend", "torch_native"])
        parser.add_argument("--reasoning-parser", choices=NAMES)
"""
FIELDS = """
class ServingArgs:
    model_path: A[str, Arg(help="Where it lies", aliases=["--model"])]
    port: A[int, "The port"] = 30000
    enable_metrics: A[bool, "Count"] = False
    attention_backend: A[str, Arg(help="Which", choices=["ascend"])] = None
    reasoning_parser: A[str, Arg(help="Which", no_cli=True)] = None
"""


def files_of(version: str, **changed: str) -> dict[str, str]:
    "A release's files: every module that is imported last, and what the reader looks into."
    modules = [name.partition("|")[0] for name in table("drift.toml")["imports"]]
    files = {"sglang/" + name.replace(".", "/")[7:] + ".py": "" for name in modules}
    files |= {
        "sglang/srt/layers/layernorm.py": NORM,
        "sglang/srt/server_args.py": FLAGS,
        "sglang/srt/parser/reasoning_parser.py": "MAP = {'qwen3': 1}\n",
        f"sglang-{version}.dist-info/METADATA": f"Name: sglang\nVersion: {version}\n",
    }
    return files | {f"sglang/{name}": text for name, text in changed.items()}


@pytest.fixture
def wheels(tmp_path, monkeypatch):
    "A folder of wheels as pip's only source."
    folder = tmp_path / "wheels"
    folder.mkdir()
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    return folder


def release(folder: Path, version: str = "2.0", requires=(), **changed: str) -> None:
    "Lay a made-up SGLang as a wheel; `changed` are texts of files below sglang/."
    wheel = make_wheel(folder, "sglang", version, requires=requires)
    with zipfile.ZipFile(wheel, "a") as archive:
        for name, text in files_of(version, **changed).items():
            if "dist-info" not in name:
                archive.writestr(name, text)


@pytest.fixture
def engine(private_home, wheels):
    "The stand-in, as the engine of the stack `emulated`."
    made = Engine(read_machine(Host()), stacks()["emulated"])
    emulation = "qwen_npu_tut/rehearsal/emulated"
    laid = files_of("1.0") | {
        "torch.py": "",
        "qwen_npu_tut/__init__.py": "",
        "qwen_npu_tut/rehearsal/__init__.py": "",
        f"{emulation}/__init__.py": "",
        f"{emulation}/names.py": f"def offered(): return {OFFERED}\n",
        "transformers-5.0.dist-info/METADATA": "Name: transformers\nVersion: 5.0\n",
    }
    for name, text in laid.items():
        file = made.site / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    made.python.parent.mkdir(parents=True)
    first = f'PYTHONPATH="${{PYTHONPATH:+$PYTHONPATH:}}{made.site}"'
    made.python.write_text(f'#!/bin/sh\n{first} exec {sys.executable} "$@"\n')
    made.python.chmod(0o755)
    return made


def everything(folder: Path) -> dict[str, bytes]:
    files = [each for each in folder.rglob("*") if each.is_file() and each.suffix != ".pyc"]
    return {str(each.relative_to(folder)): each.read_bytes() for each in files}


def verdicts(found) -> dict[str, tuple[str, str]]:
    return {each["name"]: (each["verdict"], each["change"]) for each in found.names}


def test_a_release_that_asks_for_nothing_new(engine, wheels):
    release(wheels)
    before = everything(engine.folder)
    found = rehearse(engine, "2.0", LINE)
    assert (found.version, found.missing, found.imports, found.requirements) == ("2.0", [], [], [])
    assert verdicts(found)["torch_npu.npu_rms_norm"] == ("offered", "")
    assert [each["flag"] for each in found.flags] == [each for each in LINE if each[:2] == "--"]
    assert everything(engine.folder) == before


def test_a_new_operator_is_missing(engine, wheels):
    changed = "import torch\n\n\ndef norm(x):\n    return torch.ops.npu.npu_norm_fast(x)\n"
    release(wheels, **{"srt/layers/layernorm.py": changed})
    found = rehearse(engine, "2.0", LINE)
    assert found.missing == ["torch.ops.npu.npu_norm_fast"]
    assert verdicts(found)["torch.ops.npu.npu_norm_fast"] == ("missing", "new")
    assert verdicts(found)["torch_npu.npu_rms_norm"] == ("no longer asked", "gone")
    assert "srt/layers/layernorm.py:5" in str(found) and "rehearsal/emulated" in str(found)


def test_off_the_path_is_named_with_its_reason(engine, wheels):
    release(wheels, **{"srt/layers/moe/topk.py": "import torch_npu\ny = torch_npu.npu_gate(1)\n"})
    found = rehearse(engine, "2.0", LINE)
    row = next(each for each in found.names if each["name"] == "torch_npu.npu_gate")
    assert (row["verdict"], row["why"], found.missing) == ("off the path", "experts", [])


def test_a_part_that_nobody_has_judged_is_on_the_path(engine, wheels):
    release(wheels, **{"srt/quite_new/thing.py": "import torch_npu\ny = torch_npu.npu_new(1)\n"})
    assert rehearse(engine, "2.0", LINE).missing == ["torch_npu.npu_new"]


def test_a_flag_that_is_gone(engine, wheels):
    release(wheels, **{"srt/server_args.py": FLAGS.replace("--enable-metrics", "--metrics")})
    found = rehearse(engine, "2.0", LINE)
    assert found.missing == ["--enable-metrics"]
    assert "the release does not know it" in str(found)


def test_a_parser_that_is_gone(engine, wheels):
    release(wheels, **{"srt/parser/reasoning_parser.py": "MAP = {'qwen': 1}\n"})
    assert rehearse(engine, "2.0", LINE).missing == ["--reasoning-parser qwen3"]


def test_flags_that_are_fields(engine, wheels):
    changed = {"srt/server_args.py": "", "srt/arg_groups/fields/serving.py": FIELDS}
    release(wheels, **changed)
    assert rehearse(engine, "2.0", LINE).missing == ["--reasoning-parser qwen3"]  # no_cli


def test_what_it_requires(engine, wheels):
    more = ("transformers>=6", "torch-of-others; extra == 'cuda'", "new-thing")
    release(wheels, requires=more)
    found = rehearse(engine, "2.0", LINE)
    assert found.requirements == [
        {"package": "new-thing", "asked": "any", "here": "-"},
        {"package": "transformers", "asked": ">=6", "here": "5.0"},
    ]
    assert found.missing == [] and "transformers >=6, here 5.0" in str(found)


def test_a_module_that_does_not_import(engine, wheels):
    release(wheels, **{"srt/models/qwen3.py": "import os\nfrom os import no_such_name\n"})
    found = rehearse(engine, "2.0", LINE)
    assert found.missing == ["sglang.srt.models.qwen3"]
    (row,) = found.imports
    assert "no_such_name" in row["why"] and row["where"] == "srt/models/qwen3.py:2"


def test_the_first_that_does_not_import_is_the_one_that_is_named(engine, wheels):
    broken = {
        f"{name}.py": "import no_such_module\n"
        for name in ("launch_server", "srt/models/qwen3", "srt/managers/scheduler")
    }
    release(wheels, **broken)
    assert rehearse(engine, "2.0", LINE).missing == ["sglang.launch_server"]


def test_the_release_is_imported_and_not_the_engines_own(engine, wheels):
    own = engine.site / "sglang" / "srt" / "models" / "qwen3.py"
    own.write_text("raise ImportError('the one that the engine has')\n")
    release(wheels)
    assert rehearse(engine, "2.0", LINE).imports == []


def test_no_such_release(engine, wheels):
    for version in ("1.8", "1.9", "2.0"):
        release(wheels, version)
    with pytest.raises(Problem, match=r"no sglang==3.0. Its newest: 1.8, 1.9, 2.0") as error:
        rehearse(engine, "3.0", LINE)
    assert error.value.code == 1 and not list(engine.folder.glob("rehearsed-*"))


def test_no_release_at_all_says_nothing_of_this_one(engine, wheels):
    with pytest.raises(Problem, match="nothing is known of sglang==2.0"):
        rehearse(engine, "2.0", LINE)


def test_an_index_that_is_not_reached(engine, wheels, monkeypatch):
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    with pytest.raises(Problem, match="nothing is known of sglang==2.0"):
        rehearse(engine, "2.0", LINE)


def test_a_wheel_that_is_broken(engine, wheels):
    (wheels / "sglang-2.0-py3-none-any.whl").write_bytes(b"no wheel")
    with pytest.raises(Problem, match="pip did not install sglang==2.0") as error:
        rehearse(engine, "2.0", LINE)
    assert "ERROR" in error.value.what and not list(engine.folder.glob("rehearsed-*"))


def test_an_emulation_that_does_not_answer(engine, wheels):
    release(wheels)
    (engine.site / "torch.py").write_text("raise RuntimeError('this machine has an NPU')\n")
    with pytest.raises(Problem, match="this machine has an NPU"):
        rehearse(engine, "2.0", LINE)
    assert not list(engine.folder.glob("rehearsed-*"))


@pytest.mark.parametrize("version", ["newest", "--help", "", "0.5.23; rm"])
def test_what_is_no_version(engine, version):
    with pytest.raises(Problem, match="is not a version") as error:
        rehearse(engine, version, LINE)
    assert error.value.code == 2


def test_a_stack_without_an_engine(private_home):
    made = Engine(read_machine(Host()), stacks()["emulated"])
    with pytest.raises(Problem, match="The engine of the stack emulated is not installed"):
        rehearse(made, "2.0", LINE)
    assert not private_home.exists()


def test_the_command(run, engine, wheels):
    "The launch line is the stack's own: its flags are those that are asked for."
    release(wheels)
    code, out, _ = run("stack", "verify", "emulated", "--rehearse", "2.0", "--json")
    told = json.loads(out)
    assert set(told) == {
        "stack", "version", "names", "flags", "requirements", "imports", "missing"
    }  # fmt: skip
    assert code == 1 and "--tool-call-parser qwen25" in told["missing"]  # 2.0 has none
    assert "--served-model-name" in told["missing"] and "--port" not in told["missing"]
    code, _, said = run("stack", "verify", "cpu", "--rehearse", "2.0")
    assert code == 2 and "Take one of these: emulated" in said


def test_control_c_leaves_nothing(engine, wheels, monkeypatch):
    "It comes while pip waits for an index: the folder goes, and pip with it."
    monkeypatch.delenv("PIP_NO_INDEX")
    (wheels.parent / "empty").mkdir()
    line = "from qwen_npu_tut.faces.cli import main; main()"
    words = ["stack", "verify", "emulated", "--rehearse", "2.0"]
    here = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    with index(wheels.parent / "empty", "hang") as address:
        around = {**os.environ, **here, "PIP_INDEX_URL": address}
        process = subprocess.Popen(
            [sys.executable, "-c", line, *words],
            env=around,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            until = time.monotonic() + 60
            while not list(engine.folder.glob("rehearsed-*/log")):
                assert process.poll() is None and time.monotonic() < until
                time.sleep(0.05)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=30)
        finally:
            process.kill()
    assert process.returncode == 130
    assert sorted(each.name for each in engine.folder.iterdir()) == ["env"]


def test_every_form_in_which_a_name_is_asked_for():
    source = """
import torch, torch_npu as device
from sgl_kernel_npu.sample import top_k as chosen
if cuda:
    from sgl_kernel import top_k as chosen

class Runner:
    def run(self):
        getattr(device, "npu_a")(1)
        getattr(device, "npu_b", None)
        if hasattr(torch.ops.npu, "npu_c"): pass
        self.device_module.Event()
        torch.get_device_module().Stream()
        torch.cuda.Stream()
        torch.ops.npu.npu_d.out(1)
        chosen[(2,)](device.npu_e, torch.npu.npu_f)
"""
    names = subprocess.check_output(
        [sys.executable, "-c", f"""
import json, runpy
reading = runpy.run_path({str(program("asked_names"))!r})
reader = reading["Reader"]("srt/runner.py")
reader.visit(reading["ast"].parse({source!r}))
print(json.dumps(reader.found))"""],
        text=True,
    )  # fmt: skip
    found = {(each["name"], each["how"], each["place"]) for each in json.loads(names)}
    inside = "srt/runner.py:Runner.run"
    assert found >= {
        ("torch_npu.npu_a", "use", inside),
        ("torch_npu.npu_b", "question", inside),
        ("torch.ops.npu.npu_c", "question", inside),
        ("sgl_kernel_npu.sample.top_k", "use", inside),
        ("sgl_kernel_npu.sample.top_k", "import", "srt/runner.py"),
        ("torch.npu.Event", "use", inside),
        ("torch.npu.Stream", "use", inside),
        ("torch.ops.npu.npu_d.out", "use", inside),
        ("torch_npu.npu_e", "read", inside),
        ("torch.npu.npu_f", "use", inside),
    }
    assert not any("cuda" in name or name.startswith("sgl_kernel.") for name, *_ in found)


def test_each_row_of_the_table_says_why():
    rows = table("drift.toml")
    assert all(set(row) == {"part", "on", "why"} and row["why"] for row in rows["parts"])
    assert all(set(row) == {"name", "why"} and row["why"] for row in rows["names"])
    assert rows["parts"][0] == rows["parts"][0] | {"part": "*", "on": False}
    assert len({row["part"] for row in rows["parts"]}) == len(rows["parts"])
