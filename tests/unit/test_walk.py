"Between the rooms: what follows from a choice, what is still to come, which models are fetched."

import io
import json
import sys
from dataclasses import replace

import machines
import pytest

from qwen_npu_tut import walk
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.engine.advisories import needful
from qwen_npu_tut.engine.plan import open_steps
from qwen_npu_tut.engine.stacks import fitting_stack, presets, stacks
from qwen_npu_tut.host.record import read_record
from qwen_npu_tut.model.folder import model_folder, verify
from qwen_npu_tut.rehearsal.hub import Hub, small_model

GUESSING = presets()["w8a8-eagle3"]


@pytest.fixture
def guessing(private_home, monkeypatch):
    "A choice with a preset that has a draft model."
    monkeypatch.delenv("QWEN_NPU_MODEL", raising=False)
    choice = walk.choose(machines.A3.host(), stack="cann-9.0", preset=GUESSING.name)
    return replace(choice, recorded=False)  # it stands for this machine


def test_another_machine_is_chosen_for_as_this_one(monkeypatch):
    monkeypatch.delenv("QWEN_NPU_MODEL", raising=False)
    choice = walk.choose(machines.A2.host(), port=31000)
    assert (choice.stack.name, choice.machine.soc) == ("cann-9.0", "Ascend910B3")
    assert choice.settings.port == 31000 and choice.engine.machine == choice.machine
    assert choice.settings.model == "Qwen/Qwen3-8B"


def test_the_draft_model_of_a_preset_is_fetched_too(guessing, tmp_path):
    small_model(tmp_path / "model")
    with Hub(tmp_path / "model", GUESSING.draft) as hub:
        folder = walk.fetch(guessing, source=tmp_path / "model", hub=hub.url)
    assert folder == model_folder(GUESSING.model) and verify(folder, "times")
    assert verify(model_folder(GUESSING.draft), "times")
    launch = walk.serving(guessing, {})
    assert launch.folders == [folder, model_folder(GUESSING.draft)]


def test_the_models_that_are_missing_are_counted_and_named(guessing):
    needed = walk.sizes(guessing, [])
    assert needed.download == needed.disk == GUESSING.model_bytes
    assert [GUESSING.draft in sentence for sentence in needed.beside] == [True]
    model_folder(GUESSING.draft).mkdir(parents=True)
    model_folder(GUESSING.model).mkdir()
    assert walk.sizes(guessing, []) == walk.Sizes(0, 0)


def test_a_report_and_a_plan_count_alike(private_home):
    choice = walk.choose(stack="cpu")
    steps = walk.planned(choice, ask=False)
    needed = walk.sizes(choice, open_steps(steps))
    assert needed.disk > 9e9 and walk.to_come(choice) == needed
    disk = {each.id: each for each in walk.report_on(choice).findings}["disk"]
    assert f"{needed.disk / 1e9:.1f} GB is still needed" in disk.what


def test_a_plan_may_be_looked_at_without_cann_and_not_carried_out(private_home):
    choice = walk.choose(replace(machines.A2, canns=()).host(), stack="cann-9.0")
    stack = replace(choice.stack, cann_roots=("/nowhere",))
    choice = replace(choice, stack=stack, recorded=False)  # it stands for this machine
    assert "cann" in [each.id for each in walk.host_lacks(choice)]
    assert "sglang" in [step.name for step in walk.planned(choice, ask=False)]
    with pytest.raises(Problem, match="CANN"):
        walk.planned(choice)


def test_an_address_is_a_setting_and_no_machine():
    assert walk.choose(stack="cpu", host="127.0.0.2").settings.host == "127.0.0.2"


def test_a_step_that_fetches_nothing_counts_nothing(private_home):
    choice = walk.choose(stack="cpu")
    last = walk.planned(choice, ask=False)[-1]
    model = choice.stack.model_bytes
    assert not last.fetches and walk.sizes(choice, [last]).disk == model


def test_an_engine_that_cannot_be_had_here_is_not_counted(private_home):
    guide = walk.choose(machines.A2.host(), stack="guide")
    assert walk.to_come(guide) == walk.sizes(guide, [])


@pytest.mark.parametrize("option", ["--hub", "--endpoint"])
def test_the_hub_has_its_name_and_an_earlier_one(run, tmp_path, option):
    small_model(tmp_path / "model")
    with Hub(tmp_path / "model", "owner/model") as hub:
        code, out, _ = run("download", "owner/model", option, hub.url)
    assert code == 0 and "model whole" in out
    assert verify(model_folder("owner/model"), "times")


def test_every_format_shows_the_same_steps(run, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_TORCH_INDEX", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")  # so that nobody is asked
    table, document, script = (
        run("plan", "--stack", "cpu", "--format", each)[1] for each in ("table", "json", "sh")
    )
    names = [step["name"] for step in json.loads(document)]
    assert [line[7:].split("  ")[0] for line in table.splitlines()[: len(names)]] == names
    assert [f"'{name}: to do'" in script for name in names] == [True] * len(names)


# An emulated stack, and a recorded server that it stands for


@pytest.fixture
def unset(monkeypatch, private_home):
    "What whoever runs the tests has chosen for themselves; and nobody is asked."
    for name in ("MODEL", "STACK", "SERVED_NAME"):
        monkeypatch.delenv(f"QWEN_NPU_{name}", raising=False)
    monkeypatch.setenv("QWEN_NPU_TORCH_INDEX", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")


@pytest.mark.parametrize("server", [machines.A2, machines.A3], ids=["A2", "A3"])
@pytest.mark.parametrize("name", ["emulated", "emulated-guide"])
def test_a_recorded_server_is_walked_through_on_an_emulated_engine(unset, server, name):
    "Line and variables are the server's; interpreter, steps and model are the emulated stack's."
    fits, row = walk.choose(server.host()), stacks()[name]
    choice = walk.choose(server.host(), stack=name)
    assert choice.machine == fits.machine and choice.stack.rehearses == fits.stack.name
    assert choice.engine.machine.architecture == walk.choose(stack="cpu").machine.architecture
    made = walk.serving(choice, {})
    assert made.line[0] == str(choice.engine.python) and f"/stacks/{name}/env/" in made.line[0]
    words = " ".join(made.line)
    line = needful(fits.stack.launch, row.version("sglang"))
    assert " ".join(line) in words and " ".join(row.launch) not in words
    assert made.environment.items() >= (fits.stack.environment | row.environment).items()
    assert made.environment["NPU_EMULATED_CHIP"] == fits.machine.series
    assert choice.settings.model == row.model and "--max-total-tokens" in made.line
    steps = [step.name for step in walk.planned(choice, ask=False)]
    assert steps == [step.name for step in walk.planned(walk.choose(stack=name), ask=False)]


@pytest.mark.parametrize("chip, emulated", [("910B4", "910B4"), ("910B4-1", "A2"), ("910B1", "A2")])
def test_a_recorded_card_of_half_the_memory_is_rehearsed_as_one(unset, chip, emulated):
    choice = walk.choose(replace(machines.A2, chip=chip).host(), stack="emulated")
    assert walk.serving(choice, {}).environment["NPU_EMULATED_CHIP"] == emulated


def test_a_line_is_rehearsed_without_what_only_its_own_release_needs(unset):
    "The A3 of the package has CANN 8.2: its line avoids a fault of 0.5.3rc0 by llguidance."
    server = read_record(machines.SHIPPED / "a3.json")
    for name, there in (("emulated", False), ("emulated-guide", True)):
        choice = walk.choose(server, stack=name)
        assert choice.stack.rehearses == "cann-8.2" and choice.stack.launch[0] == "--device"
        assert ("llguidance" in walk.serving(choice, {}).line) == there
        assert choice.stack.lacks == stacks()[name].lacks


def test_several_devices_keep_the_variables_of_both(unset):
    choice = walk.choose(machines.A2.host(), stack="emulated", tensor_parallel=2)
    environment = walk.serving(choice, {}).environment
    assert (environment["HCCL_OP_EXPANSION_MODE"], environment["OMP_NUM_THREADS"]) == ("AIV", "1")
    alone = walk.serving(replace(choice, settings=replace(choice.settings, tensor_parallel=1)), {})
    assert not {"HCCL_OP_EXPANSION_MODE", "OMP_NUM_THREADS"} & alone.environment.keys()


@pytest.mark.parametrize("stack", [None, "cpu", "cann-9.0", "cann-8.2"])
@pytest.mark.parametrize("doing", ["planned", "serving", "refuse_early", "teaching_steps", "fetch"])
def test_a_record_is_text_for_every_stack_that_is_not_emulated(unset, stack, doing):
    choice = walk.choose(machines.A2.host(), stack=stack)
    with pytest.raises(Problem, match="nothing is installed or started") as refused:
        getattr(walk, doing)(choice)
    assert refused.value.code == 2
    assert walk.planned(choice, ask=False) if stack != "cpu" else True
    walk.serving(choice, {}, refuse=False)


@pytest.fixture
def record(tmp_path):
    "The package's record of an A2 server, as a person names it."
    return str(machines.SHIPPED / "a2.json")


@pytest.mark.parametrize("command", ["up", "install", "serve"])
def test_no_command_installs_or_starts_anything_for_a_record(run, record, command, tmp_path):
    code, out, err = run(command, "--machine", record)
    assert code == 2 and "nothing is installed or started" in err
    assert not (tmp_path / "home").exists() or not list((tmp_path / "home").rglob("env"))


def test_the_plan_of_a_record_is_shown_and_asks_nobody(run, record, monkeypatch):
    asked, supply = [], walk.supply
    monkeypatch.setattr(walk, "supply", lambda *given: asked.append(given) or supply(*given))
    for form in ("table", "sh", "json"):
        code, out, _ = run("plan", "--machine", record, "--format", form)
        assert code == 0 and "sglang source" in out
    assert [given[2] for given in asked] == [False] * 3


def test_the_line_of_a_rehearsal_is_printed(run, record):
    code, out, _ = run("serve", "--print", "--machine", record, "--stack", "emulated", "--json")
    shown = json.loads(out)
    fits = fitting_stack(walk.choose(machines.A2.host()).machine)
    assert code == 0 and shown["environment"]["NPU_EMULATED"] == "1"
    assert {"teaching-qwen3-emulated-npu", *fits.launch} <= set(shown["line"])


@pytest.mark.parametrize("named, served", [(None, "teaching-qwen3"), ("mine", "mine")])
def test_the_served_name_says_emulated_once(unset, named, served):
    choice = walk.choose(stack="emulated", served_name=named)
    made = walk.serving(choice, {})
    for launch in (made, made.changed(port=0), made.changed().changed(server="other")):
        assert launch.settings.model_name == f"{served}-emulated-npu"
        assert launch.line[launch.line.index("--served-model-name") + 1] == f"{served}-emulated-npu"
    plain = walk.serving(walk.choose(stack="cpu", served_name=named), {})
    assert plain.settings.model_name == served


def test_what_an_emulated_stack_adds_is_counted_apart(unset):
    "Of its own little; where the other engine is not there, that one's too."
    choice = walk.choose(stack="emulated")
    steps, arch = walk.planned(choice, ask=False), choice.machine.architecture
    own, model = stacks()["emulated"], choice.stack.model_bytes
    below = walk.sizes(choice, steps[4:])
    assert (below.download, below.disk) == (0, own.disk_bytes[arch] + model)
    whole, cpu = walk.sizes(choice, steps), stacks()["cpu"]
    assert whole.download == cpu.download_bytes[arch] and whole.seconds > below.seconds > 0
    assert whole.disk == below.disk + cpu.disk_bytes[arch]
    guide = walk.choose(stack="emulated-guide")
    alone = walk.sizes(guide, walk.planned(guide, ask=False))
    assert (alone.download, alone.seconds) == (
        guide.stack.download_bytes.get(arch, 0),
        guide.stack.install_seconds,
    )
    assert walk.sizes(choice, []).seconds == 0


def test_the_plan_says_sizes_and_seconds_and_up_asks_with_them(run, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_TORCH_INDEX", "")
    monkeypatch.setenv("PIP_INDEX_URL", "http://127.0.0.1:9/simple")
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))  # nobody answers
    code, out, _ = run("plan", "--stack", "emulated")
    seconds = stacks()["cpu"].install_seconds + stacks()["emulated"].install_seconds
    assert code == 0 and "8 of 8 steps to do: up to 3.0 GB to download" in out
    assert f"some {seconds} seconds" in out
    code, out, err = run("up", "--stack", "emulated", "--port", "0")
    assert code == 130 and "an emulated NPU" in out and f"some {seconds} seconds" in out + err


def test_an_npu_is_not_emulated_beside_a_real_one(unset, monkeypatch):
    here = walk.choose(stack="emulated").machine
    carded = replace(here, nodes=("/dev/davinci_manager", "/dev/davinci0"))
    monkeypatch.setattr(walk, "read_machine", lambda host: carded)
    for name in ("emulated", "emulated-guide"):
        with pytest.raises(Problem, match="not emulated where a real one is"):
            walk.planned(walk.choose(stack=name), ask=False)
        blocked = [each.what for each in walk.report_on(walk.choose(stack=name)).blocked]
        assert any("not emulated where a real one is" in each for each in blocked)
    walk.planned(walk.choose(stack="cpu"), ask=False)


def test_a_record_may_be_named_for_a_whole_session(run, record, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_MACHINE", record)
    for stack, recorded in (("cann-9.0", True), ("emulated", True)):
        choice = walk.choose(stack=stack)
        assert (choice.machine.soc, choice.recorded) == ("Ascend910B3", recorded)
    monkeypatch.delenv("QWEN_NPU_MACHINE")
    code, given, _ = run("check", "--machine", record, "--json")
    monkeypatch.setenv("QWEN_NPU_MACHINE", record)
    assert (code, given) == run("check", "--json")[:2] and code == 0
    code, _, err = run("install", "--stack", "cann-9.0")
    assert code == 2 and "nothing is installed or started" in err
    monkeypatch.setenv("QWEN_NPU_MACHINE", f"{record}.gone")
    with pytest.raises(Problem, match="It is no file"):
        walk.choose()
    assert run("plan")[0] == 2


@pytest.mark.parametrize("variable, agreed, goes_on", [("", 0, 0), ("1", 0, 1), ("0", 1, 1)])
def test_gigabytes_are_fetched_where_somebody_agreed(
    guessing, monkeypatch, variable, agreed, goes_on
):
    monkeypatch.setenv("QWEN_NPU_YES", variable)
    if goes_on:
        assert walk.agree(guessing, agreed=bool(agreed)) == walk.sizes(guessing, [])
        return
    with pytest.raises(Problem, match="are still to be fetched") as refused:
        walk.agree(guessing, agreed=bool(agreed))
    assert GUESSING.draft in refused.value.what and "QWEN_NPU_YES=1" in refused.value.fix


def test_what_is_small_or_there_needs_no_word(guessing, monkeypatch):
    monkeypatch.delenv("QWEN_NPU_YES", raising=False)
    for model in (GUESSING.model, GUESSING.draft):
        model_folder(model).mkdir(parents=True)
    assert walk.agree(guessing) == walk.Sizes(0, 0)
    small = walk.choose(stack="cpu", model="qwen-npu-tut/teaching-qwen3")
    assert walk.agree(small).download == 0


BARE = [each for each in stacks().values() if each.needs_npu and not (each.image or each.refused)]


@pytest.mark.parametrize("stack", BARE, ids=lambda stack: stack.name)
def test_an_npu_stack_knows_its_bytes_and_what_is_not_in_them(unset, stack):
    server = machines.A2 if "A2" in stack.series else machines.A3
    for processor in stack.architectures:
        choice = walk.choose(replace(server, architecture=processor).host(), stack=stack.name)
        needed, model = walk.sizes(choice, walk.planned(choice, ask=False)), stack.model_bytes
        packages = stack.download_bytes[processor]
        assert needed.download == packages + model and 10**8 < packages < 10**9
        assert needed.disk == stack.disk_bytes[processor] + model > needed.download + packages
        assert ["GitHub" in each for each in needed.beside] == [True]
        assert walk.sizes(choice, []).beside == ()


def test_the_plan_of_a_recorded_server_says_its_sizes(run, record, unset):
    code, out, _ = run("plan", "--machine", record, "--stack", "cann-9.0")
    assert code == 0 and "12 of 12 steps to do: up to 17.0 GB to download, 19.2 GB of disk" in out
    assert "What no package index lists is not in these numbers" in out
    _, out, _ = run("plan", "--machine", record, "--stack", "cann-9.0-image")
    assert "30 GB of free disk" in out and "What no package index" not in out
