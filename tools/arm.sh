#!/bin/sh
# Proves the project on aarch64, on an x86_64 Debian: an emulated processor (qemu-user), Debian's own aarch64
# root filesystem, aarch64 wheels. No command: `make up` with its chat, a question, status and down.
#   sh tools/arm.sh [COMMAND [ARGUMENT...]]    the command runs there instead, in a clone of HEAD
# QWEN_NPU_ARM  the folder for everything; otherwise `arm` below $QWEN_NPU_HOME or ~/.cache/qwen-npu
# QEMU_CPU      neoverse-n1 unless set: ARMv8.2 without SVE and bf16, like a Kunpeng 920
set -eu
cd "$(dirname "$0")/.."
here=$PWD
work=${QWEN_NPU_ARM:-${QWEN_NPU_HOME:-$HOME/.cache/qwen-npu}/arm}
root=$work/root
inside=/opt/qwen_npu_tut  # where the clone lies in there
misc=/proc/sys/fs/binfmt_misc
conf=/usr/lib/binfmt.d/qemu-aarch64.conf
handler=qwen-npu-arm-$$
mounted='' registered='' child=''

refuse() { echo "make arm: $1" >&2; exit 1; }

# Everything that is refused, before anything is touched.
suits() {
    [ "$(uname -s)" = Linux ] || refuse "it needs Linux: qemu-user runs Linux programs of another processor, and this is $(uname -s)."
    case $(uname -m) in
        x86_64) ;;
        aarch64) refuse "this machine is aarch64 already: make up and make test prove it here, without an emulation." ;;
        *) refuse "it was written for an x86_64 machine, and this is $(uname -m)." ;;
    esac
    [ "$(id -u)" = 0 ] || refuse "it needs root, for packages, mounts and the handler of aarch64 programs: sudo make arm."
    command -v apt-get >/dev/null && [ "$(sed -n 's/^ID=//p' /etc/os-release)" = debian ] ||
        refuse "it needs Debian, whose packages and mirror it takes: apt-get is not here, or this is another system."
}

# Gone at the end, whatever the end is: what runs inside, the handler, the mount. Others' handlers stay.
# shellcheck disable=SC2329  # the trap's
tidy() {
    code=$?
    trap '' INT TERM HUP
    if [ -n "$child" ]; then
        kill -KILL "$child" 2>/dev/null || :  # its death ends the process namespace, and with it all that runs there
        wait "$child" 2>/dev/null || :
    fi
    [ -z "$registered" ] || { reach && echo -1 > "$misc/$handler"; } || :
    [ -z "$mounted" ] || umount "$misc" || :
    exit "$code"
}

# A command with mounts and processes of its own, both gone when it ends. In the background, so that a signal is
# heard at once; env, because a shell lets its background jobs ignore Ctrl-C, and Python would inherit that.
alone() {
    exec 3<&0
    env --default-signal=INT,QUIT nice -n 10 unshare --mount --propagation private --pid --fork --kill-child --mount-proc "$@" <&3 3<&- &
    child=$!
    code=0
    wait "$child" || code=$?
    child=''
    return "$code"
}

packages() {
    missing=''
    [ -e "$conf" ] || missing='qemu-user-static'
    command -v debootstrap >/dev/null || missing="$missing debootstrap"
    [ -n "$missing" ] || return 0
    export DEBIAN_FRONTEND=noninteractive
    apt-get update -qq
    # shellcheck disable=SC2086  # a list
    apt-get install -y -qq --no-install-recommends $missing >/dev/null
}

# Where the kernel's handlers are seen: mounted unless the system has done so.
reach() {
    [ ! -e "$misc/register" ] || return 0
    mount -t binfmt_misc binfmt_misc "$misc" || return
    mounted=yes
}

# The flag F in Debian's line opens the emulator now, so that it is found below any root. Of two handlers the
# kernel asks the newer one.
register() {
    reach || refuse "binfmt_misc cannot be mounted here; a container needs to be a privileged one."
    for old in "$misc"/qwen-npu-arm-*; do  # left by a run that was killed
        [ ! -e "$old" ] || kill -0 "${old##*-}" 2>/dev/null || echo -1 > "$old"
    done
    sed "s/^:[^:]*:/:$handler:/" "$conf" > "$misc/register"
    registered=yes
}

# Debian 12, because its Python is one of ours. From the mirror that apt is set to, through apt's proxy.
# shellcheck disable=SC2016  # apt's own placeholder
mirror() { apt-get indextargets --format '$(SITE)' 'Created-By: Packages' 'Label: Debian' 'Component: main' | head -n 1; }

filesystem() {
    [ ! -e "$root/.whole" ] || return 0
    [ -n "$(mirror)" ] || apt-get update -qq
    from=$(mirror)
    [ -n "$from" ] || refuse "apt names no Debian mirror; look at /etc/apt/sources.list.d."
    proxy=$(apt-config --format '%v%n' dump Acquire::http::Proxy)
    rm -rf "$root"
    # build-essential and cmake: the plans for an NPU look for them, and a test runs such a plan
    alone ${proxy:+env} ${proxy:+"http_proxy=$proxy"} debootstrap --arch=arm64 --variant=minbase \
        --include=ca-certificates,python3,python3-venv,git,make,procps,build-essential,cmake \
        bookworm "$root" "$from" > "$work/debootstrap.log" 2>&1 ||
        refuse "debootstrap did not succeed; its words are in $work/debootstrap.log."
    touch "$root/.whole"
}

# What an x86 kernel shows of its processor crashes torch while it is imported (pytorch/cpuinfo finds no core of
# ARM's there, and oneDNN misses a register): files as a Kunpeng 920 has them lie over it.
processor() {
    rm -rf "$work/cpu"
    : > "$work/cpuinfo"
    for real in /sys/devices/system/cpu/cpu[0-9]*; do
        number=${real##*/cpu}
        cat >> "$work/cpuinfo" <<END
processor	: $number
BogoMIPS	: 200.00
Features	: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp
CPU implementer	: 0x48
CPU architecture: 8
CPU variant	: 0x1
CPU part	: 0xd01
CPU revision	: 0

END
        mkdir -p "$work/cpu/cpu$number/regs/identification"
        echo 0x00000000481fd010 > "$work/cpu/cpu$number/regs/identification/midr_el1"
        for folder in topology cache; do cp -r "$real/$folder" "$work/cpu/cpu$number/" 2>/dev/null || :; done  # where they are
    done
    for file in online possible present; do cat "/sys/devices/system/cpu/$file" > "$work/cpu/$file"; done
}

# The clone is kept, and .venv in it; only what git knows is brought to HEAD.
checkout() {
    clone=$root$inside
    [ -d "$clone/.git" ] || git clone -q --no-checkout "$here" "$clone"
    git -C "$clone" fetch -q "$here" HEAD
    git -C "$clone" checkout -q --force --detach FETCH_HEAD
}

# pip's settings, names and certificates of this machine hold inside as well.
settings() {
    for file in /etc/pip.conf /root/.config/pip/pip.conf /root/.pip/pip.conf; do
        rm -f "$root$file"
        [ ! -f "$file" ] || { mkdir -p "$root${file%/*}"; cp -p "$file" "$root$file"; }
    done
    for file in "${SSL_CERT_FILE:-}" "${REQUESTS_CA_BUNDLE:-}" "${CURL_CA_BUNDLE:-}" "${PIP_CERT:-}"; do
        case $file in '' | /etc/ssl/certs/*) continue ;; esac  # that folder is mounted whole
        [ ! -f "$file" ] || { mkdir -p "$root${file%/*}"; cp -pL "$file" "$root$file"; }
    done
    for file in /etc/hosts /etc/resolv.conf; do cp -L "$file" "$root$file"; done
}

# Runs as process 1 of a namespace: a handler, else the kernel lets no Ctrl-C through to it.
# shellcheck disable=SC2016  # the other shell's variables
enter='
    set -eu
    trap : INT TERM
    mount -t proc proc "$root/proc"
    mount --rbind /sys "$root/sys"
    mount --rbind /dev "$root/dev"
    mount -t tmpfs tmpfs "$root/run"
    mount --bind "$work/cpuinfo" "$root/proc/cpuinfo"
    mount --bind "$work/cpu" "$root/sys/devices/system/cpu"
    for folder in /etc/ssl/certs /usr/local/share/ca-certificates; do
        [ ! -d "$folder" ] || { mkdir -p "$root$folder"; mount --bind "$folder" "$root$folder"; }
    done
    for name in $(env | sed -n "s/^\([A-Za-z_][A-Za-z_0-9]*\)=.*/\1/p"); do
        case $name in
            root | inside | QEMU_CPU | PIP_* | SSL_* | REQUESTS_CA_BUNDLE | CURL_CA_BUNDLE | TERM) ;;
            http_proxy | https_proxy | no_proxy | HTTP_PROXY | HTTPS_PROXY | NO_PROXY | all_proxy | ALL_PROXY) ;;
            *) unset "$name" ;;
        esac
    done
    export HOME=/root LANG=C.UTF-8 PATH="$inside/.venv/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
    code=0
    chroot "$root" /usr/bin/env -u root -u inside -C "$inside" QWEN_NPU_SLOW=10 "$@" || code=$?
    exit "$code"'

# One run for all four: a server that is started in one namespace is not seen from another.
# shellcheck disable=SC2016  # the other shell's variables
proof='
    set -e
    timed() {
        began=$(date +%s)
        "$@"
        echo "-- $(($(date +%s) - began)) s: $*"
    }
    timed make up ARGS="--stack cpu --port 0 --yes"
    timed qwen-npu chat 怎么停止服务？
    timed qwen-npu status
    timed qwen-npu down'

main() {
    suits
    commit=$(git rev-parse --short HEAD 2>/dev/null) || refuse "it takes a clone of this checkout, and git finds none here; git status says why."
    mkdir -p "$work"
    work=$(cd "$work" && pwd) root=$work/root
    exec 9> "$work/lock"
    flock -n 9 || refuse "another one is at work in $work; QWEN_NPU_ARM names another folder."
    [ -e "$root/.whole" ] || [ "$(df -Pk "$work" | awk 'NR == 2 { print $4 }')" -gt 14000000 ] ||
        refuse "it needs 14 GB of free disk, and $work has less; QWEN_NPU_ARM names another folder."
    echo "aarch64 by qemu-user, of commit $commit, in $work"
    [ -z "$(git status --porcelain)" ] || echo "What is not committed here is not in it."
    echo "Installs the packages qemu-user-static and debootstrap where they are missing; they stay."
    echo "Registers a handler of aarch64 programs with the kernel (binfmt_misc) and takes it away at the end."
    echo "The first run: about 30 minutes on 2 cores, 12 GB of disk with pip's cache; later ones 5 minutes."
    export work root inside QEMU_CPU="${QEMU_CPU:-neoverse-n1}"
    trap tidy EXIT
    trap 'exit 130' INT
    trap 'exit 143' TERM HUP
    packages
    register
    filesystem
    processor
    checkout
    settings
    [ $# -gt 0 ] || set -- sh -c "$proof"
    alone sh -c "$enter" sh "$@"
}

main "$@"; exit
