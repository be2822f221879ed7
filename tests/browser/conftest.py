"The service, the browser and the site that these tests look at."

from panel_page import lab, opened, panel_home, stand_in  # noqa: F401  fixtures are used by name
from services import browser, docs, live_server, screenshots  # noqa: F401  fixtures are used by name
