"""Where this project lives and who writes it, from settings.ini, the one place where that stands.

A host that ends in .invalid is a placeholder (RFC 2606: no such host can exist). As long as nobody
owns the repository, nothing that a reader may click on leads there.

python tools/address.py [repository | docs | author | version]
"""

import sys
from configparser import ConfigParser
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Address:
    repository: str  # https://HOST/OWNER/NAME, without a slash at its end
    docs: str  # the published site, with a slash at its end
    branch: str
    author: str
    author_email: str
    name: str
    version: str
    description: str
    keywords: tuple[str, ...]

    @property
    def known(self) -> bool:
        "False while settings.ini has placeholders."
        hosts = [urlsplit(self.repository).hostname, urlsplit(self.docs).hostname]
        hosts.append(self.author_email.partition("@")[2])
        return not any((host or "invalid").endswith("invalid") for host in hosts)

    def file(
        self,
        name: str,  # from the repository's root: LICENSE, nbs/pictures/layers.svg
        raw: bool = False,  # the bytes alone, for pictures
    ) -> str:
        "A file's address on the hub."
        return f"{self.repository}/{'raw' if raw else 'blob'}/{self.branch}/{name}"


def address(
    root: Path = ROOT,  # a folder with a settings.ini
) -> Address:
    "Read it; nbdev and setup.py read the same lines."
    parser = ConfigParser(delimiters=["="])
    parser.read(root / "settings.ini", encoding="utf8")
    said = parser["DEFAULT"]
    return Address(
        said["git_url"].rstrip("/"),
        f"{said['doc_host']}{said['doc_baseurl']}".rstrip("/") + "/",
        said["branch"],
        said["author"],
        said["author_email"],
        said["lib_name"],
        said["version"],
        said["description"],
        tuple(said["keywords"].split()),
    )


if __name__ == "__main__":
    print(getattr(address(), (sys.argv[1:] or ["repository"])[0]))
