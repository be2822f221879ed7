"The conversation in a terminal with the real engine behind it."

from patience import patient

from qwen_npu_tut.server.launch import key_of


def test_the_real_engine_in_a_terminal(live_server, terminal):
    talk = terminal(live_server.url, "--think", QWEN_NPU_API_KEY=key_of(live_server.name) or "")
    talk.expect("> ")
    talk.type("你好！\n")
    talk.expect("tokens, the first after")
    talk.type("怎么停止服务？\n")
    assert "\x1b[2m" in talk.expect("tokens, the first after")
    talk.expect("> ")
    talk.type("\x04")
    assert talk.process.wait(patient(10)) == 0
