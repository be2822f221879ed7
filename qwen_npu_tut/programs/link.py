"""Link DeepEP's module beside its folder, as its README asks for; 1 where there is none.

python link.py SITE_PACKAGES
"""

import pathlib
import sys

site = pathlib.Path(sys.argv[1])
found = list(site.glob("deep_ep/deep_ep_cpp*.so"))
for module in found:
    (site / module.name).unlink(missing_ok=True)
    (site / module.name).symlink_to(f"deep_ep/{module.name}")
sys.exit(not found)
