"Logs of what went well: the running service's, and those of the engine's installation."

import pytest

from qwen_npu_tut.base.diagnose import diagnose, likely_cause
from qwen_npu_tut.base.settings import home


def test_the_live_servers_log_has_noise_at_most(live_server):
    with open(live_server.log, "rb") as log:
        found = diagnose(log)
    assert [each.id for each in found if each.severity != "benign"] == []


def test_logs_of_an_installation_that_succeeded_have_noise_at_most():
    logs = sorted((home() / "logs").glob("install-*.log"))
    if not logs:
        pytest.skip("nothing was installed below this home")
    for log in logs:
        assert likely_cause(log) is None, log
