"What the long proofs need."

from services import browser, live_server, screenshots  # noqa: F401  fixtures are used by name
