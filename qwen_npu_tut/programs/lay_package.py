"""Lay files of a package into a site-packages folder, as an installed package.

python lay_package.py SOURCE SITE ABOUT METADATA ENTRY_POINTS RECORD

SOURCE holds the package's folder; ABOUT is the name of its .dist-info folder; the others are texts.
RECORD names the files. It is written last: without it nobody takes the package for whole.
"""

import pathlib
import runpy
import shutil
import sys

source, site, about, metadata, entry_points, record = sys.argv[1:]
source, site = pathlib.Path(source), pathlib.Path(site)
names = [line.rsplit(",", 2)[0] for line in record.splitlines()]
package = [*names, about.partition("-")[0]][0].partition("/")[0]
if not (source / package).is_dir():
    said = runpy.run_path(str(pathlib.Path(__file__).with_name("said.py")))["said"]
    sys.exit(said("package-not-there", package=package, source=source))
known = [*site.glob(f"{package}-*.dist-info"), *site.glob(f"{about.partition('-')[0]}-*.dist-info")]
for old in (site / package, *known):
    shutil.rmtree(old, ignore_errors=True)
for name in (name for name in names if name.startswith(f"{package}/")):
    (site / name).parent.mkdir(parents=True, exist_ok=True)
    shutil.copyfile(source / name, site / name)
(site / about).mkdir(parents=True, exist_ok=True)
for name, text in (("METADATA", metadata), ("entry_points.txt", entry_points), ("RECORD", record)):
    (site / about / name).write_text(text, encoding="utf-8")
