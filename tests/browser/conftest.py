"The service, the browser and the site that these tests look at."

from services import browser, docs, live_server, screenshots  # noqa: F401  fixtures are used by name
