"""Say 0 where this interpreter's packages are as named.

python read_back.py NAME[==VERSION]...

VERSION may be several with " or " between them; "absent" wants none. A local part such as +cpu
counts only where VERSION has one. Names are compared as packaging.python.org normalizes them. A
package without a RECORD is what an interrupted pip left, and is not there.
"""

import re
import sys
from importlib.metadata import distributions


def canonical(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def fits(wanted, found):
    if not wanted:
        return found != "absent"
    return bool({found, found.partition("+")[0]} & set(wanted.split(" or ")))


whole = [each for each in distributions() if each.read_text("RECORD") is not None]
have = {canonical(each.metadata["Name"] or ""): each.version for each in whole}
pins = [pin.partition("==") for pin in sys.argv[1:]]
sys.exit(not all(fits(wanted, have.get(canonical(name), "absent")) for name, _, wanted in pins))
