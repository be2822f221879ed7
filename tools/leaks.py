"""What must never stand in a saved output or on a page: paths of the machine that made it, and its
environment."""

import re
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# /root alone says nothing: it is every machine's, and the guide's.
OWN = [str(path) for path in (ROOT, Path.home()) if path not in (Path("/"), Path("/root"))]
# The guide's own path, and the driver's and Ray's on every machine: quoting them says nothing.
QUOTED = re.compile(r"(?:/root/autodl-tmp|/home/bios/driver|/tmp/ray)\b[\w./-]*")
ELSEWHERE = re.compile(
    r"(?:/home|/Users)/[\w.-]+/|/root/|/tmp/[\w.-]+|/var/folders/|[A-Z]:\\Users\\|environ\(\{"
)


def leaks(
    text: str,  # an output, or a page
) -> list[str]:  # what gives a machine away, each once
    "Find this repository's path, user's folders of any machine, and a printed environment."
    rest = QUOTED.sub("", text)
    own = [path for path in OWN if re.search(re.escape(path) + r"(?![\w-])", rest)]
    return list(dict.fromkeys(own + ELSEWHERE.findall(rest)))
