"""The panel in a real JupyterLab, clicked through by a real browser.

From check to a streamed reply, and what goes wrong on the way."""

import pytest
from fake_engine import said_later
from panel_page import a_server_that_dies_in_its_reply, from_check_to_a_streamed_reply


@pytest.mark.timeout(300)
def test_from_check_to_a_streamed_reply(opened, screenshots, panel_home):
    from_check_to_a_streamed_reply(opened, screenshots, panel_home)


@pytest.mark.timeout(120)
def test_stop_ends_the_reply_and_frees_the_server(opened, stand_in, screenshots):
    server, line = stand_in(pace=0.05)
    panel = opened(line)
    panel.go("5 Chat")
    panel.say("a" * 400)
    panel.see("echo: aaaa")
    panel.press("Stop")
    panel.see("Stopped.")
    assert said_later(server.log, "the client has gone")
    panel.say("b")
    panel.see("echo: b")


@pytest.mark.timeout(120)
def test_a_server_that_dies_in_its_reply(opened, stand_in, screenshots):
    a_server_that_dies_in_its_reply(opened, stand_in, screenshots)


@pytest.mark.timeout(120)
def test_by_keyboard_alone(opened, stand_in):
    "Tabs by arrow keys, the message typed, Send by Enter."
    server, line = stand_in(name="keys")
    panel = opened(line)
    keyboard = panel.page.keyboard
    panel.tab("1 Check").focus()
    for _ in range(4):
        keyboard.press("ArrowRight")
    keyboard.press("Enter")
    panel.page.locator(".jp-OutputArea textarea[placeholder]:visible").focus()
    keyboard.type("typed by hand")
    keyboard.press("Tab")
    keyboard.press("Enter")
    panel.see("echo: typed by hand")


@pytest.mark.timeout(120)
def test_a_fix_is_copied_by_keyboard(opened, screenshots):
    "What blocks an NPU's stack on this machine, and what to do, as text for another window."
    panel = opened()
    panel.page.get_by_label("Stack").first.select_option("cann-9.0")
    panel.see("Findings that block the stack cann-9.0")
    panel.page.screenshot(path=screenshots / "panel-blocked.png")
    field = panel.page.locator(".jp-OutputArea textarea[readonly]:visible").first
    field.focus()
    panel.page.keyboard.press("Control+c")
    assert panel.page.evaluate("() => navigator.clipboard.readText()") == field.input_value() != ""
    panel.tab("2 Install").click()
    panel.see("qwen-npu install --stack cann-9.0")
    panel.press("Install")
    panel.see("It did not succeed; the last lines say why.")
    panel.page.screenshot(path=screenshots / "panel-refused.png")
