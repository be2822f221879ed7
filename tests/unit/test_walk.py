"Between the rooms: what follows from a choice, what is still to come, which models are fetched."

import json
from dataclasses import replace

import machines
import pytest

from qwen_npu_tut import walk
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.engine.plan import open_steps
from qwen_npu_tut.engine.stacks import presets
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
