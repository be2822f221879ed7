"A real JupyterLab with private settings, driven by a real browser."

import contextlib
import os
import shutil
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from patience import patient

from qwen_npu_tut.server.processes import free_port

ROOT = Path(__file__).resolve().parents[2]
NO_NEWS = '{"fetchNews": "false", "checkForUpdates": false}'
PRIVATE = {
    "JUPYTER_CONFIG_DIR": "config",
    "JUPYTERLAB_SETTINGS_DIR": "settings",
    "JUPYTERLAB_WORKSPACES_DIR": "workspaces",
    "JUPYTER_RUNTIME_DIR": "runtime",
}
# What the cells print is looked at every 10 ms: a streamed reply is seen growing. The command's
# promise ends when the last cell has ended; a click in the menu may come before the kernel is
# ready.
RUN_ALL = """async () => {
    const app = window.jupyterapp
    await app.restored
    const panel = app.shell.currentWidget
    await panel.sessionContext.ready
    const seen = panel.content.widgets.map(() => new Set())
    const look = setInterval(() => panel.content.widgets.forEach((cell, number) => {
        for (const output of cell.model.outputs?.toJSON() ?? [])
            if (output.name === 'stdout') seen[number].add([output.text].flat().join(''))
    }), 10)
    const finished = await app.commands.execute('notebook:run-all-cells')
    clearInterval(look)
    return {finished, growing: Math.max(...seen.map(texts => texts.size))}
}"""


def wait_until_up(url: str, process: subprocess.Popen, log: Path, seconds: float = 60):
    "Wait for JupyterLab to answer; its log is the message when it does not."
    deadline = time.monotonic() + patient(seconds)
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError):
            return urllib.request.urlopen(f"{url}/api/status", timeout=patient(2)).read()
        time.sleep(0.2)
    raise RuntimeError(log.read_text())


@contextlib.contextmanager
def jupyterlab(folder: Path, **more: str):
    """JupyterLab over a private copy of the notebooks, with private settings and these variables;
    its address."""
    shutil.copytree(
        ROOT / "nbs",
        folder / "nbs",
        ignore=shutil.ignore_patterns(".ipynb_checkpoints", "_quarto.yml"),
    )
    news = folder / "settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    news.parent.mkdir(parents=True)
    news.write_text(NO_NEWS)
    url = f"http://127.0.0.1:{free_port('127.0.0.1', 0)}"
    options = [
        "--no-browser",
        "--allow-root",
        "--expose-app-in-browser",
        "--ip=127.0.0.1",
        f"--port={url.rsplit(':', 1)[1]}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=",
        f"--ServerApp.root_dir={folder / 'nbs'}",
    ]
    log = folder / "lab.log"
    with log.open("w") as out:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterlab", *options],
            stdout=out,
            stderr=out,
            env={
                **os.environ,
                **{name: str(folder / value) for name, value in PRIVATE.items()},
                **more,
            },
        )
    try:
        wait_until_up(url, process, log)
        yield url
    finally:
        process.terminate()
        process.wait(patient(20))


@contextlib.contextmanager
def run_whole(browser, lab_url: str, chapter: str, seconds: int, width: int = 1300):
    """A chapter after all its cells have ended without an error: the page, how it ran, and its
    outputs."""
    page = browser.new_page(viewport={"width": width, "height": 1000})
    page.set_default_timeout(patient(seconds) * 1000)
    try:
        page.goto(f"{lab_url}/lab/tree/{chapter}?reset")
        page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-Cell").first.wait_for()
        run = page.evaluate(RUN_ALL)
        contents = page.evaluate(
            "() => window.jupyterapp.shell.currentWidget.content.model.toJSON()"
        )
        outputs = [output for cell in contents["cells"] for output in cell.get("outputs", [])]
        errors = [
            output
            for output in outputs
            if output["output_type"] == "error" or output.get("name") == "stderr"
        ]
        assert run["finished"] and not errors, errors
        yield page, run, outputs
    finally:
        page.close()
