"What would be started, said; and the files that hand a service over."

import json
import os
import re
import shlex
import shutil
import subprocess
from dataclasses import replace

import machines
import pytest

from qwen_npu_tut import walk
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.base.files import write_atomic
from qwen_npu_tut.base.settings import Settings, read_settings
from qwen_npu_tut.engine import image, stacks as versions
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.server import handover
from qwen_npu_tut.server.launch import key_file, launch, made_key_file
from qwen_npu_tut.walk import Choice


def test_print_says_where_each_value_came_from(run, tmp_path, monkeypatch):
    (tmp_path / "qwen-npu.toml").write_text("port = 31000\ncontext_length = 4096\n")
    monkeypatch.setenv("QWEN_NPU_MEMORY_FRACTION", "0.8")
    code, out, _ = run("serve", "--print", "--stack", "cpu", "--tp", "2")
    assert code == 0
    for name, value, origin in (
        ("port", "31000", "qwen-npu.toml"),
        ("memory_fraction", "0.8", "QWEN_NPU_MEMORY_FRACTION"),
        ("tensor_parallel", "2", "the call"),
        ("host", "127.0.0.1", "the default"),
    ):
        assert re.search(
            rf"{name} +{re.escape(value)} +.*{re.escape(origin)}$", out, re.MULTILINE
        ), (name, out)
    assert (
        "--tp-size 2" in out
        and "--mem-fraction-static 0.8" in out
        and "SGLANG_CPU_OMP_THREADS_BIND=" in out
    )
    assert not (tmp_path / "home").exists()  # and nothing was started or written


def test_print_never_shows_a_key(run, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_API_KEY", "sk-very-secret")
    for words in ((), ("--json",)):
        code, out, err = run("serve", "--print", "--stack", "cpu", *words)
        assert code == 0 and "sk-very-secret" not in out + err and "not shown" in out


def test_the_page_beside_ours(run):
    found = json.loads(run("serve", "--print", "--stack", "guide", "--json")[1])
    flags = {row["flag"]: row for row in found["page"]}
    assert (
        flags["--host"]["page"] == "0.0.0.0"
        and flags["--host"]["ours"] == "127.0.0.1"
        and all(row["why"] for row in found["page"])
    )
    assert "--attention-backend" not in flags


@pytest.mark.parametrize(
    "words, sentence",
    [
        (("--preset", "w4"), "There is no preset named"),
        (("--preset", "w8a8", "--stack", "cann-8.2"), "is described for cann-9.0"),
        (("--tp", "0"), "out of range"),
        (("--host", "no such host", "--stack", "cann-8.2"), "cannot be given a key unseen"),
    ],
)
def test_what_cannot_be_served(run, server, words, sentence):
    code, _, err = run("export", "systemd", *words)
    assert code in (1, 2) and sentence in err and "Traceback" not in err


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="systemd is not here")
def test_a_unit_with_odd_names(run, tmp_path, monkeypatch):
    monkeypatch.setenv("QWEN_NPU_HOME", str(tmp_path / "home 家 50%"))
    (tmp_path / "home 家 50%").mkdir()
    (tmp_path / 'model "x" $y').mkdir()
    code, out, err = run(
        "export",
        "systemd",
        "--stack",
        "cpu",
        "--model",
        str(tmp_path / 'model "x" $y'),
        "-o",
        "qwen.service",
    )
    assert code == 0, err
    text = (tmp_path / "qwen.service").read_text()
    unit = tmp_path / "checked.service"
    unit.write_text(
        re.sub(r'^ExecStart="[^"]*"', 'ExecStart="/usr/bin/env"', text, flags=re.MULTILINE)
    )  # pytest is in the place of qwen-npu here
    checked = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True)
    assert not [line for line in checked.stderr.splitlines() if "checked.service" in line], (
        checked.stderr
    )
    words = shlex.split(
        re.search("^ExecStart=(.*)$", text, re.MULTILINE)[1].replace("%%", "%").replace("$$", "$")
    )
    assert words[1:3] == ["serve", "--foreground"] and str(tmp_path / 'model "x" $y') in words
    assert (
        run("export", "systemd", "--stack", "cpu", "-o", "qwen.service")[0] == 2
        and (tmp_path / "qwen.service").read_text() == text
    )


def test_a_compose_file_says_what_docker_run_says(run, server, private_home):
    write_atomic(key_file("default"), "of a server that runs")
    code, out, err = run("export", "compose", "--stack", "cann-9.0-image", "--host", "0.0.0.0")
    assert code == 0, err
    assert key_file("default").read_text() == "of a server that runs"
    service = json.loads(out)["services"]["qwen"]
    assert (
        service["image"] == stacks()["cann-9.0-image"].images["A3"]
        and len(service["devices"]) == 19
        and service["privileged"]
    )
    assert (
        service["command"][:3] == ["python3", "-m", "sglang.launch_server"]
        and "--config" in service["command"]
    )
    made = made_key_file("default").read_text().strip()
    assert (
        made not in out
        and made in key_file("default-compose").read_text()
        and oct(key_file("default-compose").stat().st_mode & 0o777) == "0o600"
    )
    assert run("export", "compose", "--stack", "cann-9.0")[0] == 2


def test_a_unit_needs_a_port(run):
    code, _, err = run("export", "systemd", "--stack", "cpu", "--port", "0")
    assert code == 2 and "needs a port of its own" in err


def test_a_unit_is_called_in_the_readers_language(run, monkeypatch):
    line = ("export", "systemd", "--stack", "cpu", "--model", "owner/Small-8B")
    units = []
    for language in ("en", "zh"):
        monkeypatch.setenv("QWEN_NPU_LANG", language)
        units.append(run(*line)[1].splitlines())
    assert units[0][1] == "Description=Small-8B on SGLang, stack cpu"
    assert units[1][1] == "Description=SGLang 上的 Small-8B，版本组合 cpu"
    assert units[0][2:] == units[1][2:] != []


def test_no_key_is_in_a_unit(server):
    made = launch(Settings(api_key="sk-very-secret"), Engine(server, stacks()["cpu"]), {})
    text = handover.systemd_unit(made, "/usr/bin/qwen-npu", "qwen")
    assert "sk-very-secret" not in text and "EnvironmentFile=-" in text


def test_who_holds_a_device_is_named():
    machine = read_machine(
        replace(machines.A2, used=60000, processes=((0, 4711, "mindieservice_b", 57000),)).host()
    )
    (busy,) = walk.busy_devices(Choice(Settings(), machine, stacks()["cann-9.0"]))
    assert "process 4711 on NPU 0" in busy.what and busy.fix


def read_back(unit: str, folder: str | None = None) -> Settings:
    "The settings of the `qwen-npu serve` that a unit starts."
    plain = unit.replace("%%", "%")  # as systemd.unit(5) reads it; and $$ in a command
    (command,) = re.findall(r"^ExecStart=(.*)$", plain, re.MULTILINE)
    program, serve, stay, *options = shlex.split(command.replace("$$", "$"))
    assert (serve, stay) == ("serve", "--foreground")
    names = {option: name for name, option in handover.OPTIONS.items()}
    given = {names[option]: value for option, value in zip(options[::2], options[1::2])}
    lines = re.findall(r"^Environment=(.*)$", plain, re.MULTILINE)
    pairs = (shlex.split(line)[0].split("=", 1) for line in lines)
    variables = {name: value.replace("\\n", "\n") for name, value in pairs}
    (place,) = re.findall(r"^WorkingDirectory=(.*)$", plain, re.MULTILINE)
    return read_settings(f"{folder or place}/qwen-npu.toml", variables, **given)


EVERYTHING = {
    "served_name": "my 'qwen' 50% $x",
    "context_length": 8192,
    "max_total_tokens": 4096,
    "memory_fraction": 0.85,
    "reasoning_parser": "deepseek-r1",
    "tool_call_parser": "hermes",
    "flags": "--log-level info --json-model-override-args '{\"a\": 1}'",
    "server": "second",
    "host": "0.0.0.0",
    "port": 31000,
    "tensor_parallel": 2,
    "model": "Qwen/Qwen3-0.6B",
    "hub": "https://hub.example",
    "url": "http://other.example",
}


def test_a_unit_carries_every_setting(run, monkeypatch, private_home):
    "Written by the command, read back as the unit's own command reads it: the same settings."
    for name, value in EVERYTHING.items():
        monkeypatch.setenv(f"QWEN_NPU_{name.upper()}", str(value))
    code, unit, err = run("export", "systemd", "--stack", "cpu")
    assert code == 0, err
    assert read_back(unit) == Settings(**EVERYTHING, stack="cpu")
    assert f"EnvironmentFile=-{private_home}/servers/second.env" in unit


def test_each_setting_alone_is_in_a_unit(server):
    for name, value in EVERYTHING.items():
        chosen = Settings(**{name: value})
        made = launch(chosen, Engine(server, stacks()["cpu"]), {})
        unit = handover.systemd_unit(made, "qwen-npu", "qwen")
        assert read_back(unit) == Settings(**{name: value}, stack="cpu"), name


def test_a_dollar_is_doubled_in_arguments_and_not_in_the_program(server, tmp_path):
    "systemd.service(5) replaces variables in the arguments of a command, not in its path."
    model = tmp_path / "$models"
    model.mkdir()
    made = launch(Settings(model=str(model)), Engine(server, stacks()["cpu"]), {})
    unit = handover.systemd_unit(made, "/opt/$app/qwen-npu", "qwen")
    assert 'ExecStart="/opt/$app/qwen-npu" "serve"' in unit and '/$$models"' in unit
    assert read_back(unit).model == str(model)


def test_no_file_beside_changes_what_a_unit_says(run, tmp_path, private_home):
    "A settings file in our own folder, where the unit worked before, and in the caller's."
    code, unit, _ = run("export", "systemd", "--stack", "cpu")
    for folder in (private_home, tmp_path):
        folder.mkdir(exist_ok=True)
        (folder / "qwen-npu.toml").write_text("context_length = 512\n")
    assert code == 0 and read_back(unit) == Settings(stack="cpu")
    assert read_back(unit, str(private_home)).context_length == 512  # it would have been


@pytest.mark.parametrize(
    "settings, words, sentence",
    [
        ({}, ("--stack", "cann-8.2", "--preset", "w8a8"), "is described for cann-9.0"),
        ({"API_KEY": "sk-one"}, ("--stack", "cann-8.2"), "takes a key only as an argument"),
        ({}, ("--stack", "cann-8.2", "--host", "0.0.0.0"), "cannot be given a key unseen"),
        ({}, ("--stack", "guide"), "is the record of a page"),
        ({"FLAGS": "--page-size 16"}, ("--stack", "cann-9.0"), "pages of 128"),
        ({"FLAGS": "--api-key x"}, ("--stack", "cpu"), "does not belong into the flags"),
        ({"SERVER": "a b"}, ("--stack", "cpu"), "cannot name a server"),
    ],
)
def test_what_serve_refuses_is_not_written(
    run, server, monkeypatch, tmp_path, settings, words, sentence
):
    monkeypatch.setattr(walk, "serving_base", lambda stack: {})  # CANN is there
    for name, value in settings.items():
        monkeypatch.setenv(f"QWEN_NPU_{name}", value)
    kinds = [("export", "systemd"), ("export", "compose")]
    stack = words[1]
    if f"{stack}-image" in stacks():
        kinds[1] = ("export", "compose", "--stack", f"{stack}-image")
    for kind in [*kinds, ("serve",)]:
        given = [*kind[:2], *words, *kind[2:]]  # the last --stack counts
        code, out, err = run(*given)
        assert code in (1, 2) and sentence in err and "Traceback" not in err, (kind, err)
        assert "[Unit]" not in out and "services" not in out
        assert not [*tmp_path.rglob("*.yaml"), *tmp_path.rglob("*.key")]


def test_the_pages_stack_is_refused_before_its_cann_is_looked_for(run, server):
    for words in (("serve",), ("serve", "--foreground"), ("export", "systemd")):
        code, out, err = run(*words, "--stack", "guide")
        assert code in (1, 2) and "The stack guide is " in err and not out and "Trace" not in err


def composed(run, *words) -> dict:
    code, out, err = run("export", "compose", "--stack", "cann-9.0-image", *words)
    assert code == 0, err
    return json.loads(out)["services"]["qwen"]


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])
def test_a_compose_file_has_the_draft_model(run, server, private_home, host):
    service = composed(run, "--preset", "w8a8-eagle3", "--host", host)
    draft = f"{private_home}/models/Zjcxy-SmartAI--Eagle3-Qwen3-8B-zh"
    place = service["command"].index("--speculative-draft-model-path")
    assert service["command"][place + 1] == draft and "" not in service["command"]
    assert f"{draft}:{draft}:ro" in service["volumes"]
    assert sum(each.endswith(":ro") for each in service["volumes"]) == 3  # model, draft, key


def test_a_compose_file_is_made_of_docker_runs_words(run, server, monkeypatch):
    "A changed row of stacks.toml changes both; what a compose file cannot say is refused."
    row = ("--privileged", "--network=bridge", "--shm-size=64g")
    monkeypatch.setattr(image, "image_options", lambda: row)
    assert image.container_line(server, stacks()["cann-9.0-image"])[4:7] == list(row)
    service = composed(run)
    assert (service["network_mode"], service["shm_size"]) == ("bridge", "64g")
    assert "ipc" not in service and service["privileged"] is True
    monkeypatch.setattr(image, "image_options", lambda: (*row, "--pids-limit=9"))
    code, _, err = run("export", "compose", "--stack", "cann-9.0-image")
    assert code == 1 and "cannot say --pids-limit" in err


def test_a_compose_file_gives_what_docker_run_passes_on(run, server):
    service = composed(run, "--preset", "w8a8-eagle3")
    words = image.container_line(server, stacks()["cann-9.0-image"])
    passed = {words[place + 1] for place, word in enumerate(words) if word == "--env"}
    assert service["environment"].keys() <= passed
    preset = versions.presets()["w8a8-eagle3"].environment
    assert preset.items() <= service["environment"].items()


def test_a_compose_file_needs_a_port(run, server):
    code, _, err = run("export", "compose", "--stack", "cann-9.0-image", "--port", "0")
    assert code == 2 and "needs a port of its own" in err


def test_a_launch_does_not_show_what_it_starts_from(server):
    made = launch(Settings(api_key="sk-a"), Engine(server, stacks()["cpu"]), {"TOKEN": "sk-b"})
    assert "sk-a" not in repr(made) and "sk-b" not in repr(made)
    assert made.environment["TOKEN"] == "sk-b" and "sk-a" not in str(made.environment)


def test_a_launch_made_anew_is_the_same(server, private_home):
    "Its own environment is a base that gives it again, for every stack and preset."
    base = {"PATH": "/bin", "no_proxy": "a.example", "ASCEND_USE_FIA": "1", "QWEN_NPU_PORT": "1"}
    keyed = {"api_key": "sk-a", "tensor_parallel": 2, "model": "a/b"}
    for each in stacks().values():
        for preset in (None, *versions.presets()):
            try:
                made = launch(Settings(**keyed, preset=preset), Engine(server, each), base)
            except Problem:
                continue
            assert made.changed() == made
    assert not private_home.exists()


def test_a_made_key_never_begins_with_a_dash(server, private_home, monkeypatch):
    "A server would take it for an option: one key in 64 was refused as none."
    from qwen_npu_tut.server import launch as launching

    monkeypatch.setattr(launching.secrets, "token_urlsafe", lambda size: "-" * size)
    opened = launch(Settings(host="0.0.0.0"), Engine(server, stacks()["cpu"]), os.environ)
    assert launching.with_key(opened).settings.api_key.startswith("sk-")
