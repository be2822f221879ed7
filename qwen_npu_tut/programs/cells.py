"""Call a function that a notebook defines, in the interpreter that runs this file.

    python cells.py NOTEBOOK FUNCTION '{"argument": "value"}'

The notebook's cells that begin with `#| in_engine` are run in their order, in one namespace. What
the function returns is printed as JSON, unless it is None. It needs the standard library only; the
cells may need more.
"""

import json
import sys
from pathlib import Path

MARK = "#| in_engine"


def namespace(notebook: str) -> dict:
    "What the marked cells of a notebook define."
    names = {"__name__": "__main__"}  # a dataclass looks its module up
    for cell in json.loads(Path(notebook).read_text("utf-8"))["cells"]:
        source = "".join(cell["source"])
        if cell["cell_type"] == "code" and source.splitlines()[:1] == [MARK]:
            exec(compile(source, "%s, cell %s" % (notebook, cell["id"]), "exec"), names)
    return names


if __name__ == "__main__":
    notebook, function, arguments = sys.argv[1:]
    result = namespace(notebook)[function](**json.loads(arguments))
    if result is not None:
        print(json.dumps(result, ensure_ascii=False))
