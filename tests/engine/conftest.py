"The service that these tests call."

from services import live_server  # noqa: F401  fixtures are used by name
