#!/bin/sh
# Finds a Python that fits and lets it make .venv:   sh tools/environment.sh package|dev
# Each candidate is really run: a name on PATH may be a shim that only prints an error.
# A sentence stands here in English, then in Chinese: said.sh prints one of them.
set -u
cd "$(dirname "$0")/.." || exit 1

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 12))'
whole='import ensurepip, venv'
without_venv=
part=${1:-}
if [ -n "${PYTHON:-}" ]; then set -- "$PYTHON"; else set -- .venv/bin/python .venv/Scripts/python python3.12 python3.11 python3 python; fi
for candidate; do
    command -v "$candidate" >/dev/null 2>&1 || continue
    "$candidate" -c "$fits" >/dev/null 2>&1 || continue
    if "$candidate" -c "$whole" >/dev/null 2>&1; then exec "$candidate" tools/environment.py "$part"; fi
    without_venv=${without_venv:-$candidate}
done

if [ -n "$without_venv" ]; then
    version=$("$without_venv" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
    sh tools/said.sh \
        "Python $version is here, but its venv module is not whole: on Debian and Ubuntu, apt-get install python$version-venv puts it there; then run the same command again." \
        "本机有 Python $version，但它的 venv 模块不完整：在 Debian 和 Ubuntu 上，用 apt-get install python$version-venv 安装，然后重新运行同一命令。" >&2
    exit 1
fi
case $(uname -s 2>/dev/null) in
    Darwin) how="brew install python@3.12" ;;
    Linux) how=$(sh tools/said.sh \
        "apt-get install python3.11 python3.11-venv (Debian 12), dnf install python3.11 (openEuler, RHEL)" \
        "Debian 12 用 apt-get install python3.11 python3.11-venv，openEuler、RHEL 用 dnf install python3.11") ;;
    *) how=$(sh tools/said.sh "the installer of python.org" "python.org 的安装程序") ;;
esac
if [ -n "${PYTHON:-}" ]; then
    sh tools/said.sh "Python 3.11 or 3.12 is needed and PYTHON=$PYTHON is not one that runs." \
        "需要 Python 3.11 或 3.12，而 PYTHON=$PYTHON 不是可以运行的这种版本。" >&2
else
    sh tools/said.sh "Python 3.11 or 3.12 is needed and none of python3.12, python3.11, python3 is one that runs." \
        "需要 Python 3.11 或 3.12，而 python3.12、python3.11、python3 中没有可以运行的这种版本。" >&2
fi
sh tools/said.sh "Get one by: $how; or conda create -n py312 python=3.12; or uv python install 3.12; then name it: make up PYTHON=/path/to/python3.12" \
    "安装方法：$how；或 conda create -n py312 python=3.12；或 uv python install 3.12。然后指定它：make up PYTHON=/path/to/python3.12" >&2
exit 1
