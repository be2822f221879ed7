"What the long proofs need."

from npu_plans import npu_server  # noqa: F401  fixtures are used by name
from panel_page import lab, opened, panel_home, stand_in  # noqa: F401  fixtures are used by name
from services import browser, live_server, screenshots  # noqa: F401  fixtures are used by name
from starts import engine, settings  # noqa: F401  fixtures are used by name
