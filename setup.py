"The package, described once in settings.ini."
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(HERE / "settings.ini", encoding="utf8")
settings = parser["DEFAULT"]

setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=(HERE / "README.md").read_text(encoding="utf8") if (HERE / "README.md").exists() else "",
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    url=settings["git_url"],
    keywords=settings["keywords"].split(),
    author=settings["author"],
    packages=find_packages(include=["qwen_npu_tut*"]),
    include_package_data=True,
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={"dev": settings["dev_requirements"].split(), "npu": settings["npu_requirements"].split()},
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{settings['lib_name']}={settings['lib_name']}._modidx:d"],
        # SGLang asks this group for platforms of other makers; ours answers only when it is named.
        "sglang.srt.platforms": ["qwen_npu_cpu=qwen_npu_tut.rehearsal.cpu_platform:activate"],
    },
)
