"""The panel in a real JupyterLab, as a person sees it, and two ways through it.

The two ways assert what they see, so that a test and a proof can take the same one."""

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from lab import RUN_ALL, jupyterlab
from patience import patient

HALF = {"width": 700, "height": 1000}
RESTART = """async () => {
    const session = window.jupyterapp.shell.currentWidget.sessionContext.session
    await session.kernel.restart()
}"""
# How many controls are cut off at the right.
CUT_OFF = """() => [...document.querySelectorAll('.jp-OutputArea :is(button, textarea)')]
    .filter(each => each.offsetParent)
    .filter(each => each.getBoundingClientRect().right > window.innerWidth).length"""


@pytest.fixture(scope="module")
def panel_home(tmp_path_factory):
    "A home of its own, with the real engine in it."
    from qwen_npu_tut.base.settings import home

    folder = tmp_path_factory.mktemp("panel")
    (folder / "stacks").symlink_to(home() / "stacks")
    yield folder
    subprocess.run(
        [sys.executable, "-c", "from qwen_npu_tut.server.lifecycle import stop; stop('panel')"],
        env={**os.environ, "QWEN_NPU_HOME": str(folder)},
        check=True,
    )  # where a test has failed


@pytest.fixture(scope="module")
def lab(tmp_path_factory, panel_home):
    "JupyterLab whose kernels know that home, and a server of their own on a free port."
    folder = tmp_path_factory.mktemp("lab")
    with jupyterlab(
        folder,
        QWEN_NPU_HOME=str(panel_home),
        QWEN_NPU_SERVER="panel",
        QWEN_NPU_PORT="0",
        QWEN_NPU_STACK="cpu",
        QWEN_NPU_API_KEY="",
        LANG="C.UTF-8",
    ) as url:
        yield url, folder


class Shown:
    "A notebook with the panel in it, as a person sees it."

    def __init__(self, browser, lab: tuple[str, Path], before: str = ""):
        from playwright.sync_api import expect

        expect.set_options(timeout=patient(60_000))
        self.expect, (lab_url, folder) = expect, lab
        self.page = browser.new_page(
            viewport={"width": 1300, "height": 1000},
            permissions=["clipboard-read", "clipboard-write"],
        )
        self.page.set_default_timeout(patient(60_000))
        notebook = nbformat.v4.new_notebook(
            cells=[
                nbformat.v4.new_code_cell(source)
                for source in (
                    f"import os\nfrom qwen_npu_tut.console import console\n{before}",
                    "console()",
                )
            ]
        )
        notebook.metadata.kernelspec = {
            "display_name": "python3",
            "language": "python",
            "name": "python3",
        }
        nbformat.write(notebook, folder / "nbs/panel.ipynb")
        self.page.goto(f"{lab_url}/lab/tree/panel.ipynb?reset")
        self.page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first.wait_for()
        self.run()

    def run(self):
        assert self.page.evaluate(RUN_ALL)["finished"]
        self.tab("1 Check ✓|1 检查 ✓").wait_for()

    def restart(self):
        "A new kernel, and the cells once more."
        self.page.evaluate(RESTART)
        self.run()

    def tab(self, name: str):
        return self.page.get_by_role("tab", name=re.compile(f"^({name})"))

    def go(self, name: str):
        self.tab(name).click()

    def press(self, name: str):
        self.page.locator(".jp-OutputArea button:visible", has_text=re.compile(f"^{name}$")).click()

    def see(self, text: str, seconds: float = 60):
        self.page.locator(".jp-OutputArea .qwen:visible", has_text=text).last.wait_for(
            timeout=patient(seconds) * 1000
        )

    def say(self, text: str):
        self.page.locator(".jp-OutputArea textarea[placeholder]:visible").fill(text)
        self.press("Send")

    def picture(self, path: Path):
        self.page.locator(".jp-OutputArea-output .jupyter-widgets.widget-vbox").first.screenshot(
            path=path
        )

    def close(self):
        "The page, and the kernel behind it."
        self.page.evaluate("() => window.jupyterapp.serviceManager.sessions.shutdownAll()")
        self.page.close()


@pytest.fixture
def opened(browser, lab, panel_home):
    shown = []
    (panel_home / "panel.json").unlink(missing_ok=True)  # what the last panel left

    def begin(before=""):
        shown.append(Shown(browser, lab, before))
        return shown[-1]

    yield begin
    for each in shown:
        each.close()


@pytest.fixture
def stand_in(serving):
    "A slow stand-in for an engine, and the line that makes a kernel call it."

    def begin(**faults):
        server = serving(**faults)
        return server, f"os.environ['QWEN_NPU_URL'] = {server.url!r}"

    return begin


def from_check_to_a_streamed_reply(opened, screenshots, panel_home):
    "Then another kernel, the other language, half the width, and the server stopped."
    from qwen_npu_tut.server.processes import birth

    panel = opened()
    panel.press("Check")
    panel.see("Nothing blocks the stack cpu.")
    panel.page.screenshot(path=screenshots / "panel-check.png")
    panel.go("2 Install")
    panel.press("Install")
    panel.see("4 steps read back")
    panel.see("Done.")
    panel.page.screenshot(path=screenshots / "panel-install.png")
    panel.go("3 Download")
    panel.press("Download")
    panel.see("The model is whole: ")
    panel.page.screenshot(path=screenshots / "panel-download.png")
    panel.go("4 Serve")
    panel.press("Start")
    panel.see("At work: qwen-npu serve")
    panel.restart()  # while the model loads: the job goes on, and the new kernel finds it
    panel.expect(panel.tab("4 Serve")).to_have_attribute("aria-selected", "true")
    panel.see("teaching-qwen3 answers at http://127.0.0.1:", 120)
    panel.page.screenshot(path=screenshots / "panel-serve.png")
    panel.go("5 Chat")
    panel.page.get_by_label("Think first").check()
    panel.say("你是谁？")
    panel.see("tokens, the first after")
    panel.see("我是一个教学模型")
    panel.say("怎么停止服务？")
    panel.see("qwen-npu down")
    panel.page.wait_for_timeout(500)
    panel.page.screenshot(path=screenshots / "panel-chat.png")
    panel.picture(screenshots / "panel.png")
    panel.restart()
    panel.see("我是一个教学模型")
    panel.expect(panel.tab("5 Chat")).to_have_attribute("aria-selected", "true")
    panel.expect(panel.page.get_by_label("Think first")).to_be_checked()
    panel.page.get_by_role("button", name="中文").click()
    panel.tab("5 对话").wait_for()
    panel.page.set_viewport_size(HALF)
    panel.page.evaluate("() => window.jupyterapp.commands.execute('application:toggle-left-area')")
    panel.page.wait_for_timeout(500)
    panel.page.screenshot(path=screenshots / "panel-chat-zh-half.png")
    assert panel.page.evaluate(CUT_OFF) == 0
    panel.go("1 检查")
    panel.see("操作系统：Linux。")  # the findings follow the button
    panel.page.wait_for_timeout(500)
    panel.page.screenshot(path=screenshots / "panel-check-zh-half.png")
    panel.go("4 服务")
    panel.see("正在 http://127.0.0.1:")
    server = json.loads((panel_home / "servers/panel.json").read_text())
    panel.press("停止")
    panel.see("没有正在运行的服务。")
    assert not birth(server["pid"])
    panel.press("启动")
    panel.see("进行中：qwen-npu serve")
    panel.see("导入模块")  # a job speaks the language of the panel
    panel.press("停止")  # while it loads
    panel.see("已停止。")
    assert not (panel_home / "servers/panel.json").exists()


def a_server_that_dies_in_its_reply(opened, stand_in, screenshots):
    "What came stays to be read, the question comes back into its field, and no traceback is shown."
    server, line = stand_in(pace=0.05, name="dying")
    panel = opened(line)
    panel.go("5 Chat")
    panel.say("c" * 400)
    panel.see("echo: cccc")
    os.kill(server.pid, signal.SIGKILL)
    panel.see("broke off in the middle of its answer")
    panel.page.screenshot(path=screenshots / "panel-died.png")
    panel.expect(panel.page.locator(".jp-OutputArea textarea[placeholder]:visible")).to_have_value(
        "c" * 400
    )
    assert "Traceback" not in panel.page.inner_text(".jp-NotebookPanel:not(.lm-mod-hidden)")
    panel.press("Send")
    panel.see("Nothing answers at http://127.0.0.1:")
