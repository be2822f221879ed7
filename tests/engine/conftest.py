"The service that these tests call."

from pseudo_terminal import terminal  # noqa: F401  fixtures are used by name
from services import live_server  # noqa: F401  fixtures are used by name
