"Stand-ins that these tests start: an engine, docker, a server with NPUs."

from pseudo_terminal import terminal  # noqa: F401  fixtures are used by name
from npu_plans import npu_server  # noqa: F401  fixtures are used by name
from starts import docker, engine, settings  # noqa: F401  fixtures are used by name
