"What is known against releases, and where a person meets it: check, plan, key, contract, line."

import json
import os
import stat
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import replace

import machines
import pytest

from qwen_npu_tut import walk

from qwen_npu_tut.engine import installation as kernels
from qwen_npu_tut.base.events import Problem
from qwen_npu_tut.base.files import program
from qwen_npu_tut.base.settings import Settings
from qwen_npu_tut.server.client import Endpoint
from qwen_npu_tut.engine.findings import check
from qwen_npu_tut.contract import contract
from qwen_npu_tut.engine.advisories import advisories, concerns, every_advisory
from qwen_npu_tut.engine.cpu import locked_versions, package_rows
from qwen_npu_tut.engine.stacks import stacks
from qwen_npu_tut.engine.target import Engine, supply
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.server.lifecycle import start, stop
from qwen_npu_tut.server.launch import key_of, launch, made_key_file
from qwen_npu_tut.walk import Choice

OPEN = {
    "cann-8.2": "CVE-2025-10164",
    "cann-8.3": "CVE-2026-86793",
    "cann-8.5": "CVE-2026-86793",
    "cann-9.0": "CVE-2026-86793",
}


@pytest.fixture
def fake_python(tmp_path):
    "The stand-in for an engine's interpreter."
    file = tmp_path / "python"
    stand_in = os.path.join(os.path.dirname(__file__), "..", "support", "fake_engine.py")
    file.write_text(f'#!/bin/sh\nexec {sys.executable} {stand_in} "$@"\n')
    file.chmod(0o755)
    return file


@pytest.fixture
def settings(monkeypatch, tmp_path):
    "A model that counts as proved."
    from types import SimpleNamespace

    from qwen_npu_tut.server import lifecycle as serve

    whole = SimpleNamespace(or_problem=lambda: SimpleNamespace(folder=tmp_path))
    monkeypatch.setattr(serve, "verify", lambda folder, depth: whole)
    return Settings(model="Qwen/Qwen3-8B", port=0)


def of(name: str, base: Mapping[str, str], settings=None, python=None, simulated=machines.A3):
    "A launch of a stack."
    engine = Engine(read_machine(simulated.host()), stacks()[name])
    return launch(settings or Settings(), engine, base, python)


@pytest.mark.parametrize(
    "name, hole",
    [
        *OPEN.items(),
        *((f"{name}-image", hole) for name, hole in OPEN.items() if name != "cann-8.5"),
    ],
)
def test_an_open_hole_is_named_wherever_one_looks(run, server, name, hole):
    findings = {each.id: each for each in check(server, stacks()[name]).findings}
    assert findings[f"advisory-{hole}"].level == "warn" and findings[f"advisory-{hole}"].fix
    shown = json.loads(run("stack", "show", name, "--json")[1])
    assert hole in [each["id"] for each in shown["advisories"]]
    code, out, _ = run("serve", "--print", "--stack", name)
    assert code == 0 and f"{hole} (security" in out
    for words in (
        ((), ("--format", "sh")) if name.endswith("-image") else ((),)
    ):  # a script of the others needs CANN here
        code, out, err = run("plan", "--stack", name, *words)
        assert code == 0 and hole in out, (words, out, err)


def test_a_release_without_it_says_nothing_of_it():
    assert not [
        each.id
        for each in advisories(stacks()["cpu"], "security")
        if each.runs_code and not each.needs
    ]
    for each in every_advisory():
        if each.until:
            assert not concerns(each, each.until), each.id


@pytest.mark.parametrize("name", ["cann-9.0", "cann-8.5"])
def test_a_hole_that_a_key_closes_gets_one_on_this_machine_too(
    settings, fake_python, private_home, name
):
    said = walk.before_serving(
        Choice(settings, read_machine(machines.A3.host()), stacks()[name]), {}
    )
    assert (
        any("it closes the holes CVE-2026-86793" in each for each in said)
        and not made_key_file("default").exists()
    )
    server = start(of(name, {}, settings, fake_python))
    try:
        made = made_key_file("default").read_text().strip()
        assert (
            key_of("default") == made
            and stat.S_IMODE(made_key_file("default").stat().st_mode) == 0o600
        )
        asked = [
            Endpoint(server.url, key).http.get("/v1/models").status_code for key in (made, None)
        ]
        assert (
            asked == [200, 401]
            and made not in " ".join(server.line)
            and made not in open(server.log).read()
        )
        again = start(of(name, {}, settings, fake_python))
        assert again.pid == server.pid  # the same key, so the same server
    finally:
        stop("default")
    assert made_key_file("default").read_text().strip() == made  # and the same one the next time


def test_a_release_that_takes_no_key_says_so(settings, private_home):
    said = walk.before_serving(
        Choice(settings, read_machine(machines.A2.host()), stacks()["cann-8.2"]), {}
    )
    assert any("to take a key unseen" in each for each in said) and not any(
        "A key is made" in each for each in said
    )
    quiet = walk.before_serving(
        Choice(settings, read_machine(machines.A2.host()), stacks()["cpu"]), {}
    )
    assert not any("key is made" in each or "unseen" in each for each in quiet)


def test_a_printed_line_has_the_key_that_would_be_made_and_makes_none(run, server, tmp_path):
    found = json.loads(run("serve", "--print", "--stack", "cann-9.0", "--json")[1])
    assert "--config" in found["line"] and "CVE-2026-86793" in found["settings"]["api_key"]["from"]
    assert not (tmp_path / "home").exists()


def test_a_variable_that_answers_wrongly_is_not_handed_on(private_home):
    harmful = {"ASCEND_USE_FIA": "1"}
    for name in ("cann-8.2", "cann-8.3", "cann-8.5"):
        assert "ASCEND_USE_FIA" not in of(name, harmful).environment
    assert of("cann-9.0", harmful).environment["ASCEND_USE_FIA"] == "1"
    assert not any("ASCEND_USE_FIA" in dict(each.environment) for each in stacks().values())
    machine = read_machine(replace(machines.A2, environment={"ASCEND_USE_FIA": "1"}).host())
    warned = {each.id: each for each in check(machine, stacks()["cann-8.2"]).findings}[
        "advisory-fia-after-a-prefix-hit"
    ]
    assert warned.level == "warn" and "unset ASCEND_USE_FIA" in warned.fix
    assert any(
        "ASCEND_USE_FIA" in each
        for each in walk.before_serving(Choice(Settings(), machine, stacks()["cann-8.2"]), harmful)
    )


@pytest.mark.parametrize(
    "text, mode, sentence",
    [
        ("", 0o600, "holds no key"),
        (" \n", 0o600, "holds no key"),
        ("two words", 0o600, "holds no key"),
        ("-dash", 0o600, "holds no key"),
        ("a\nb", 0o600, "holds no key"),
        ("密钥", 0o600, "holds no key"),
        ("sk-good", 0o644, "Others may read"),
    ],
)
def test_a_made_key_that_is_none_starts_nothing(
    settings, fake_python, private_home, text, mode, sentence
):
    made_key_file("default").parent.mkdir(parents=True)
    made_key_file("default").write_text(text, encoding="utf8")
    made_key_file("default").chmod(mode)
    with pytest.raises(Problem) as refused:
        start(of("cann-9.0", {}, settings, fake_python))
    assert sentence in refused.value.what and "sk-good" not in str(refused.value)
    assert not (private_home / "servers/default.json").exists()


@pytest.mark.parametrize(
    "words, sentence",
    [(("--stack", "cann-9.0"), "is no image"), (("--stack", "cann-9.0-image"), "has no such card")],
)
def test_a_refused_compose_file_leaves_nothing(run, tmp_path, monkeypatch, words, sentence):
    machine = (
        read_machine(replace(machines.A2, npus=0).host())
        if "image" in words[1]
        else read_machine(machines.A2.host())
    )
    monkeypatch.setattr(walk, "read_machine", lambda host: machine)
    code, _, err = run("export", "compose", *words)
    assert code in (1, 2) and sentence in err and not list((tmp_path / "home").rglob("*.key"))


def test_a_printed_line_that_would_not_start_says_so(run, server):
    code, out, _ = run("serve", "--print", "--stack", "cann-8.2", "--host", "0.0.0.0")
    assert code == 0 and "It would not be started:" in out
    assert (
        "This line avoids it." in out
        and run("serve", "--print", "--stack", "cann-9.0-next")[0] == 0
    )


@pytest.mark.parametrize(
    "flags, name, refused",
    [
        ("--page-size 16", "cann-9.0", True),
        ("--page-size=1", "cann-8.5", True),
        ("--page-s 64", "cann-9.0-image", True),
        ("--page-size 128", "cann-9.0", False),
        ("--page-size 16", "cpu", False),
        ("--sampling-backend ascend", "cann-9.0", False),
        ("--grammar-backend xgrammar", "cann-8.2", True),
        ("--grammar-backend xgrammar", "cann-9.0", False),
        ("--tokenizer-worker-num 4", "cpu", True),
        ("--api-k s3cr3t", "cpu", True),
        ("--ap s3cr3t", "cpu", True),
        ("--ho 0.0.0.0", "cpu", True),
        ("--page-size 128 --page-siz 16", "cann-9.0", True),
        ("--grammar-backend llguidance --grammar-back xgrammar", "cann-8.2", True),
        ("--admin-api-key s3cr3t", "cann-9.0", True),
        ("--ssl-keyfile-password s3cr3t", "cpu", True),
        ("--admin s3cr3t", "cpu", True),
    ],
)
def test_flags_that_do_harm(run, server, monkeypatch, flags, name, refused):
    monkeypatch.setenv("QWEN_NPU_FLAGS", flags)
    code, out, err = run("serve", "--print", "--stack", name)
    assert (code == 2) == refused and "Traceback" not in err, err
    assert "s3cr3t" not in out + err
    if not refused:
        assert flags.split("=")[0].split()[0] in out


def test_what_is_only_risky_is_said(settings, private_home):
    risky = replace(settings, flags="--sampling-backend ascend --enable-lora")
    said = walk.before_serving(
        Choice(risky, read_machine(machines.A3.host()), stacks()["cann-9.0"]), {}
    )
    assert any(each.startswith("sampling-backend:") for each in said) and any(
        each.startswith("CVE-2026-15969:") for each in said
    )


ASCEND = {"version": "0.5.3rc0", "device": "npu", "grammar_backend": "xgrammar"}


@pytest.mark.slow
@pytest.mark.parametrize(
    "says, asked",
    [
        (ASCEND, False),
        (ASCEND | {"grammar_backend": "llguidance"}, True),
        (ASCEND | {"version": "0.5.16"}, True),
        ({}, True),
    ],
)
def test_the_contract_does_not_end_the_server_that_it_asks(serving, says, asked):
    server = serving(says=says, fatal=not asked)
    verdicts = {each.id: each for each in contract(Endpoint(server.url, timeout=5, retries=0))}
    spared = [
        name
        for name, each in verdicts.items()
        if each.result == "unsupported" and "would end the server" in each.evidence
    ]
    assert ("json-schema" in spared and "tool-auto" in spared) != asked and verdicts[
        "chat"
    ].result == "pass"
    assert verdicts["health"].result == "pass"  # it still lives


def test_the_release_of_triton_ascend_stands_in_for_a_cleared_index(tmp_path):
    "The step's own program, with two commands in the place of pip's."
    said = tmp_path / "said"
    swap = tmp_path / "swap.py"  # pip's own line would take packages out
    taking_out = '"uninstall", "-y", "triton", "triton-ascend"'
    text = program("swap").read_text()
    assert taking_out in text
    swap.write_text(text.replace(taking_out, '"--version"'))

    def way(name: str, code: int) -> list[str]:
        writing = f"import sys; open({str(said)!r}, 'a').write({name!r}); sys.exit({code})"
        return [sys.executable, "-c", writing]

    def ended(*words: str) -> int:
        line = [sys.executable, str(swap), *words]
        return subprocess.run(line, capture_output=True).returncode

    for first, expected, code in ((1, "first second", 0), (0, "first", 0)):
        said.unlink(missing_ok=True)
        done = ended(*way("first ", first), "--or", *way("second", 0))
        assert (said.read_text().strip(), done) == (expected, code)
    assert ended(*way("first", 3)) == 1


def test_numpy_1_26_has_a_pyarrow_that_imports():
    for each in stacks().values():
        if "numpy" not in each.pins or not each.version("numpy").startswith("1."):
            continue
        if each.lock:  # all that is installed stands in its lock
            locked = locked_versions(package_rows(each, "x86_64"))
            assert locked["numpy"] == "1.26.4" and locked.get("pyarrow", "21.0.0") == "21.0.0"
        else:
            assert each.version("pyarrow") == "21.0.0", each.name


def test_the_newest_release_for_cann_9_is_offered_as_an_image_alone(server):
    with pytest.raises(Problem, match="cann-9.0-next-image"):
        supply(Engine(server, stacks()["cann-9.0-next"]))
    arm = Engine(replace(server, architecture="aarch64"), stacks()["cann-9.0-next-image"])
    (pull, *_) = kernels.installation(arm, supply(arm))
    assert "@sha256:" in pull.command[-1] and "v0.5.19-cann9.0.0-a3" in pull.command[-1]


def test_what_is_known_on_an_npu_concerns_an_emulated_one():
    "Its SGLang takes the same path; torch_npu, CANN and images it has not."
    for name, real in (("emulated-guide", "cann-8.2"), ("emulated", "cann-9.0")):
        stack = stacks()[name]
        found = {each.id for each in advisories(stack)}
        release = stack.version("sglang")
        meant = {
            each.id
            for each in every_advisory()
            if each.npu and each.package == "sglang" and concerns(each, release)
        }
        assert meant and meant <= found and not any(each.image for each in advisories(stack))
        assert stacks()[real].needs_npu and not stack.needs_npu
    schema = {each.id for each in advisories(stacks()["emulated-guide"])}
    assert "schema-ends-the-server" in schema
    assert not [each.id for each in advisories(stacks()["cpu"]) if each.npu]


def test_the_grades_are_one_list():
    grades = {"npu", "emulated", "cpu", "resolved", "stated", "inferred"}
    pins = {pin.proof for each in stacks().values() for pin in each.pins.values()}
    assert pins | {each.proof for each in every_advisory()} <= grades - {"npu"}
    assert all(
        pin.proof == "emulated"
        for each in stacks().values()
        if each.emulated
        for pin in each.pins.values()
    )
