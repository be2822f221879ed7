"""What `fit` computes, beside what SGLang itself printed.

recorded/memory.json was printed by SGLang on an emulated NPU (six releases, three sizes of device)
and by the CPU engine; none of it comes from a real NPU. `make prove --only "emulated memory"` has
SGLang print it anew."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from qwen_npu_tut.base.events import Problem, table
from qwen_npu_tut.base.settings import TEACHING_MODEL, Settings
from qwen_npu_tut.engine.advisories import flags_of
from qwen_npu_tut.engine.memory import Chip, chip_named, chip_of, fit, room, shape_of
from qwen_npu_tut.engine.stacks import Pin, stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.record import read_record
from qwen_npu_tut.rehearsal import tutor
from qwen_npu_tut.server.launch import launch, room_for
from qwen_npu_tut.walk import choose, refuse_early, report_on, told_room

ROOT = Path(__file__).resolve().parents[2]
SHAPES = table("memory.toml")["shapes"]
PRINTED = json.loads((ROOT / "tests/support/recorded/memory.json").read_text())
A2 = ROOT / "qwen_npu_tut/machines/a2.json"
COMMAND = [sys.executable, "-c", "from qwen_npu_tut.faces.cli import main; main()", "fit"]


def built_in(name: str):
    name = TEACHING_MODEL if name == "teaching" else f"Qwen/Qwen3-{name}"
    return shape_of(SHAPES[name], name)


def named(row: dict) -> str:
    return " ".join([row["sglang"], row["device"], row["shape"], *row["flags"]])


@pytest.mark.parametrize("row", PRINTED, ids=named)
def test_planned_is_what_was_printed(row):
    "Tokens and requests within 1 % on an emulated NPU, within 5 % on the CPU engine."
    stack = stacks()["cpu" if row["device"] == "cpu" else "emulated"]
    pin = replace(stack.pins["sglang"], version=row["sglang"])
    stack = replace(stack, pins={**stack.pins, "sglang": pin})
    assert isinstance(pin, Pin)
    flags = flags_of(row["flags"])
    flags |= {"--tp-size": flags["--tp"]} if "--tp" in flags else {}
    series = "" if row["device"] == "cpu" else "A2"
    chip = Chip(row["device"], row["total_mib"], row["free_gib"], series=series)
    found = fit(built_in(row["shape"]), chip, stack, flags)
    near = 0.05 if row["device"] == "cpu" else 0.01
    assert found.max_total_tokens == pytest.approx(row["tokens"], rel=near)
    assert row["requests"] in (None, pytest.approx(found.max_running, rel=near))
    if row["left_gib"] is not None:
        assert found.free_bytes / 2**30 == pytest.approx(row["left_gib"], rel=near)
    assert found.starts == bool(row["tokens"])


def test_what_was_printed_covers_what_is_claimed():
    npu = [row for row in PRINTED if row["device"] != "cpu"]
    assert {row["sglang"] for row in npu} == {
        *("0.5.3rc0", "0.5.6.post2", "0.5.9", "0.5.16", "0.5.19", "0.5.23")
    }
    for release in ("0.5.3rc0", "0.5.23"):
        rows = [row for row in npu if row["sglang"] == release]
        assert {"0.6B", "8B", "30B-A3B"} <= {row["shape"] for row in rows}
        assert {"A2", "910B4"} <= {row["device"] for row in rows}
        assert any("--tp" in row["flags"] for row in rows)
    assert {row["shape"] for row in PRINTED if row["device"] == "cpu"} == {
        *("teaching", "0.6B", "1.7B")
    }


def test_the_guides_log_without_a_fit():
    found = fit(built_in("8B"), chip_named("A2"), stacks()["cann-8.2"])
    assert found.max_total_tokens == pytest.approx(254_848, rel=0.01)
    assert found.max_running == pytest.approx(3186, rel=0.01)
    graphs = 0.39  # as the log says; no formula knows it
    assert found.free_bytes / 2**30 - graphs == pytest.approx(9.04, rel=0.01)


def test_the_teaching_models_shape_is_its_own():
    shape = built_in("teaching")
    assert all(getattr(shape, name) == value for name, value in tutor.SHAPE.items())


@pytest.mark.parametrize("stack", [each for each in stacks().values() if not each.page_line])
def test_every_stack_has_its_arithmetic(stack):
    if stack.on_npu:
        for device in ("A2", "A3", "910B4"):
            assert room(built_in("0.6B"), chip_named(device), stack, flags_of(stack.launch)).fits
    else:
        assert fit(built_in("0.6B"), Chip("main memory", 24_000, 20.0), stack).starts


def test_eight_billion_fit_on_an_a2_with_every_stacks_own_line():
    machine = read_machine(read_record(A2))
    for stack in stacks().values():
        if stack.needs_npu and not stack.page_line:
            made = launch(Settings(model="Qwen/Qwen3-8B"), Engine(machine, stack), {}, refuse=False)
            assert room_for(made).fits, stack.name


def folder(path: Path, **changes) -> str:
    "A model's folder with a config.json alone."
    config = {**SHAPES["Qwen/Qwen3-8B"], **changes}
    (path / "config.json").write_text(json.dumps({k: v for k, v in config.items() if v}))
    return str(path)


def run(*words: str) -> subprocess.CompletedProcess:
    return subprocess.run([*COMMAND, *words], capture_output=True, text=True)


BAD = [
    ({"num_key_value_heads": None}, (), "lacks a whole number for num_key_value_heads", 1),
    ({"hidden_size": "4096"}, (), "hidden_size", 1),
    ({"model_type": "llama"}, (), "another kind ('llama')", 1),
    ({"quantization_config": {"bits": 8}}, (), "quantised", 1),
    ({}, ("--device", "A9"), "no device 'A9'", 2),
    ({}, ("--context", "50000"), "not between 1 and the model's 40960", 1),
    ({}, ("--tp", "3"), "3 devices do not divide", 2),
    ({}, ("--tp", "16"), "16 devices were asked for", 2),
]


@pytest.mark.parametrize("changes, words, told, code", BAD, ids=[each[2] for each in BAD])
def test_bad_input_is_a_sentence(tmp_path, changes, words, told, code):
    device = () if "--device" in words else ("--device", "A2")
    ended = run(folder(tmp_path, **changes), *device, *words)
    assert (ended.returncode, ended.stdout) == (code, "")
    assert told in ended.stderr and len(ended.stderr.splitlines()) == 3  # what, fix, address
    as_json = json.loads(run(folder(tmp_path, **changes), *device, *words, "--json").stdout)
    assert {*as_json["error"]} == {"what", "fix"}


@pytest.mark.parametrize("text", ["", "[]", "{", '"x"', "\x00", "null"])
def test_a_broken_config_is_a_sentence(tmp_path, text):
    (tmp_path / "config.json").write_text(text)
    ended = run(str(tmp_path), "--device", "A2")
    assert ended.returncode == 1 and "Traceback" not in ended.stderr
    assert len(ended.stderr.splitlines()) == 3 and "\nMore: " in ended.stderr


def test_a_quantised_folder_is_weighed(tmp_path):
    config = SHAPES["Qwen/Qwen3-8B"] | {"quantize": "w8a8"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    with open(tmp_path / "model.safetensors", "wb") as file:
        file.truncate(9_000_000_000)
    found = json.loads(run(str(tmp_path), "--device", "A2", "--json").stdout)
    assert found["weight_bytes"] == 9_000_000_000


def test_a_number_is_one_document_with_its_spread():
    ended = run("Qwen/Qwen3-8B", "--machine", str(A2), "--stack", "cann-9.0", "--json")
    found = json.loads(ended.stdout)
    keys = "max_total_tokens kv_bytes_per_token weight_bytes reserved_bytes free_bytes contexts"
    assert {*keys.split(), "max_running", "tensor_parallel"} <= {*found}
    for name, (low, high) in found["estimates"].items():
        assert low <= found[name] <= high
    assert found["tensor_parallel"] == 1 and found["device"]["name"] == "A2"


def test_what_does_not_fit_is_refused_before_anything_is_fetched():
    host = read_record(A2)
    choice = choose(host, model="Qwen/Qwen3-32B")
    report = report_on(choice, live=False)
    told = next(each for each in report.findings if each.id == "fit")
    assert told.level == "block" and "--tp 2" in told.fix
    spread = choose(host, model="Qwen/Qwen3-32B", tensor_parallel=2)
    assert "fit" not in [each.id for each in report_on(spread, live=False).blocked]
    here = choose(stack="cpu", model="Qwen/Qwen3-32B", port=0, server="nobody")
    small = replace(here, machine=replace(here.machine, memory_bytes=24 * 10**9))
    with pytest.raises(Problem, match="does not fit on 1 x main memory"):
        refuse_early(small)


def test_what_others_hold_is_not_free():
    machine = read_machine(read_record(A2))
    used = [replace(each, hbm_used_mb=50_000) for each in machine.smi.devices]
    busy = replace(machine, smi=replace(machine.smi, devices=used))
    chip = chip_of(busy, stacks()["cann-9.0"])
    assert len(chip.taken_gib) == 8 and chip.taken_gib[0] > 40
    level, told = room(built_in("8B"), chip, stacks()["cann-9.0"], {"--tp-size": "1"}).told("it")
    assert level == "warn" and "others use" in told.what


def eight_on_an_a2(**settings) -> tuple[str, str]:
    "What is told of a large model on a recorded A2 with these settings: ok, warn or block; words."
    found = told_room(choose(read_record(A2), model="Qwen/Qwen3-32B", **settings))
    return (found[0], found[1].what) if found else ("", "")


@pytest.mark.parametrize("flags", ["--tp 2", "--tp-size=2", "--tensor-parallel-size 2"])
def test_devices_in_a_persons_flags_count(flags):
    assert eight_on_an_a2(flags=flags)[0] == "ok"


@pytest.mark.parametrize("flags", ["--tp x", "--tp -1", "--tp", "--max-total-tokens 1e9"])
def test_a_number_that_is_none_is_a_sentence(flags):
    level, what = eight_on_an_a2(flags=flags)
    assert level == "block" and what


@pytest.mark.parametrize("flags", ["--pp-size 2", "--cpu-offload-gb 20", "--dtype float32"])
def test_what_is_not_computed_is_not_refused(flags):
    assert eight_on_an_a2(flags=flags) == ("", "")


@pytest.mark.parametrize("value", ["nan", "inf", "1", "x"])
def test_a_share_that_is_none_is_a_sentence(value):
    level, what = eight_on_an_a2(flags=f"--mem-fraction-static {value}")
    assert level == "block" and "--mem-fraction-static" in what


def test_what_sglang_refuses_is_refused_first():
    for settings in ({"tensor_parallel": 3}, {"tensor_parallel": 16}):
        assert eight_on_an_a2(**settings)[0] == "block", settings
    longer = eight_on_an_a2(context_length=131_072)  # SGLang can be told to take it
    assert longer == ("", "")


def test_ranks_share_main_memory():
    cpu = stacks()["cpu"]
    chip = Chip("main memory", 24_000, 20.0)
    flags = flags_of(cpu.launch) | {"--max-total-tokens": "32768"}
    assert not fit(built_in("32B"), chip, cpu, flags | {"--tp-size": "8"}).starts
    two = fit(built_in("0.6B"), chip, cpu, flags | {"--tp-size": "2"})
    assert two.starts and two.reserved_bytes * 2 < 20 * 2**30


def test_a_large_host_with_little_free_keeps_its_share():
    "SGLang keeps free a share of what is free; the share follows from the whole memory."
    machine = replace(choose(stack="cpu").machine, memory_bytes=22 * 2**30)
    small, large = (
        chip_of(replace(machine, memory_total=total * 2**30), stacks()["cpu"])
        for total in (24, 256)
    )
    assert (small.total_mib, large.total_mib) == (24 * 1024, 256 * 1024)
    shape, cpu = built_in("8B"), stacks()["cpu"]
    assert fit(shape, large, cpu).reserved_bytes < fit(shape, small, cpu).reserved_bytes


def test_a_device_without_its_size_is_taken_by_its_name_or_not_at_all():
    machine = read_machine(read_record(A2))

    def named(name: str):
        seen = [replace(each, name=name, hbm_total_mb=None) for each in machine.smi.devices]
        return replace(machine, smi=replace(machine.smi, devices=seen))

    assert chip_of(named("910B4"), stacks()["cann-9.0"]).total_mib < 32 * 1024
    with pytest.raises(Problem, match="known size"):
        chip_of(named("910B3"), stacks()["cann-9.0"])


def test_the_devices_that_a_server_would_take_decide():
    machine = read_machine(read_record(A2))
    first, *others = machine.smi.devices
    seen = [first, *(replace(each, hbm_used_mb=60_000) for each in others)]
    machine = replace(machine, smi=replace(machine.smi, devices=seen))
    chip = chip_of(machine, stacks()["cann-9.0"])
    stack, shape = stacks()["cann-9.0"], built_in("8B")
    assert room(shape, chip, stack, {"--tp-size": "1"}).told("it")[0] == "ok"
    assert room(shape, chip, stack, {"--tp-size": "2"}).told("it")[0] == "warn"
    variables = machine.environment | {"ASCEND_RT_VISIBLE_DEVICES": "3,0"}
    chip = chip_of(replace(machine, environment=variables), stack)
    assert chip.devices == 2 and chip.taken_gib[0] > 50 > chip.taken_gib[1]
    beyond = replace(machine, environment={"ASCEND_RT_VISIBLE_DEVICES": "99"})
    assert room(shape, chip_of(beyond, stack), stack).found.tensor_parallel == 1
    assert room(shape, chip, stack, {"--tp-size": "1"}).told("it")[0] == "warn"


def test_a_size_that_no_row_has_is_not_guessed():
    machine = read_machine(read_record(A2))
    for size in (49_152, 98_304):
        seen = [replace(each, hbm_total_mb=size) for each in machine.smi.devices]
        with pytest.raises(Problem, match="known size"):
            chip_of(replace(machine, smi=replace(machine.smi, devices=seen)), stacks()["cann-9.0"])


def test_the_models_of_2025_are_known():
    for name in ("Qwen3-4B-Instruct-2507", "Qwen3-30B-A3B-Thinking-2507"):
        assert built_in(name.removeprefix("Qwen3-")).max_position_embeddings == 262_144
    w8a8 = json.loads(run("vllm-ascend/Qwen3-8B-w8a8", "--device", "A2", "--json").stdout)
    assert w8a8["weight_bytes"] == 11_270_000_000


def test_a_stack_without_npu_has_no_device():
    ended = run("Qwen/Qwen3-8B", "--device", "A2", "--stack", "cpu")
    assert ended.returncode == 2 and "uses no NPU" in ended.stderr


def test_a_part_of_a_quantised_model_is_not_weighed(tmp_path):
    config = SHAPES["Qwen/Qwen3-8B"] | {"quantize": "w8a8"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model-00001.safetensors").write_bytes(b"x" * 100)
    assert "not all here" in run(str(tmp_path), "--device", "A2").stderr


def test_a_link_to_nothing_is_no_weight(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SHAPES["Qwen/Qwen3-8B"]))
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "gone")
    assert json.loads(run(str(tmp_path), "--device", "A2", "--json").stdout)["fits"] is True
