#!/bin/sh
# Chromium for the browser tests, from the system's packages; does nothing where it is there.
if command -v chromium >/dev/null 2>&1; then exit 0; fi
if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null 2>&1; then
    echo "Installing Chromium and two fonts: about 150 MB to download, a minute."
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium fonts-dejavu-core fonts-noto-cjk >/dev/null && exit 0
    echo "apt-get could not install Chromium: the browser tests will be skipped." >&2
    exit 1
fi
echo "Chromium is not here and this user cannot install it: on Debian and Ubuntu, sudo apt-get install chromium fonts-noto-cjk; the browser tests are skipped without it." >&2
exit 1
