"The package, described once in settings.ini."
import re
from configparser import ConfigParser
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
parser = ConfigParser(delimiters=["="])
parser.read(HERE / "settings.ini", encoding="utf8")
settings = parser["DEFAULT"]
REPOSITORY, BRANCH = settings["git_url"].rstrip("/"), settings["branch"]
INSIDE = r"(?!https?:|#|/)"  # a link from the root of the repository


def readme() -> str:
    "README.md for a package index, where a link within the repository would lead nowhere."
    file = HERE / "README.md"
    text = file.read_text(encoding="utf8") if file.exists() else ""
    seen, read = rf"\g<1>{REPOSITORY}/raw/{BRANCH}/", rf"\g<1>{REPOSITORY}/blob/{BRANCH}/"
    for link, address in (  # pictures first: they are links with a mark before them
        (rf"(!\[[^\]]*\]\(){INSIDE}", seen),
        (rf"(<(?:img|source)\b[^>]*? src(?:set)?=\"){INSIDE}", seen),
        (rf"(\]\(){INSIDE}", read),
        (rf"(<a\b[^>]*? href=\"){INSIDE}", read),
    ):
        text = re.sub(link, address, text)
    return text


setup(
    name=settings["lib_name"],
    version=settings["version"],
    description=settings["description"],
    long_description=readme(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    url=REPOSITORY,
    project_urls={
        "Documentation": f"{settings['doc_host']}{settings['doc_baseurl']}/",
        "Changes": f"{REPOSITORY}/blob/{BRANCH}/CHANGELOG.md",
        "Issues": f"{REPOSITORY}/issues",
    },
    keywords=settings["keywords"].split(),
    author=settings["author"],
    author_email=settings["author_email"],
    classifiers=[
        "Development Status :: 3 - Alpha",
        "Intended Audience :: Developers",
        "Natural Language :: Chinese (Simplified)",
        "Natural Language :: English",
        "Operating System :: POSIX :: Linux",
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
    ],
    packages=find_packages(include=["qwen_npu_tut*"]),
    include_package_data=True,
    python_requires=f">={settings['min_python']}",
    install_requires=settings["requirements"].split(),
    extras_require={
        "dev": settings["dev_requirements"].split(),
        "npu": settings["npu_requirements"].split(),
    },
    entry_points={
        "console_scripts": settings["console_scripts"].split(),
        "nbdev": [f"{settings['lib_name']}={settings['lib_name']}._modidx:d"],
        # SGLang asks this group for platforms of other makers; ours answers only when it is named.
        "sglang.srt.platforms": ["qwen_npu_cpu=qwen_npu_tut.rehearsal.cpu_platform:activate"],
    },
)
