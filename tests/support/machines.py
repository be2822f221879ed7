"""Machines that we do not have, made from a few words: as a record, or as a folder with programs.

    python tests/support/machines.py     writes the two records of the package, its machines/

None of this was recorded on a real machine. The tables are drawn in the layouts of hicann/driver's
npucli; numbers are invented.
"""

import json
import os
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

from qwen_npu_tut.host.system import Completed, Host, RecordedHost, run_bounded
from qwen_npu_tut.host.machine import read_machine
from qwen_npu_tut.host.record import Recorder, record_text
from qwen_npu_tut.host.software import KERNELS

SHIPPED = Path(__file__).resolve().parents[2] / "qwen_npu_tut" / "machines"
DEVICE_OF = {
    "910B": "0xd802",
    "Ascend910_": "0xd803",
    "910A": "0xd801",
    "310P": "0xd500",
    "950": "0xd806",
}  # by the chip's beginning
FOLDER_OF = {"0xd802": "ascend910b", "0xd803": "ascend910_93"}
PROBE_OK = "probe ok: Ascend910B3\n"


@dataclass(frozen=True)
class Simulated:
    "A machine in a few words. The defaults are a healthy A2 server that the stack cann-9.0 fits."

    chip: str = "910B3"  # as npu-smi names it; Ascend910_9392 is an A3; empty: no card
    device: str = ""  # the PCI device number; by the chip if empty
    npus: int = 8
    driver: str = "25.5.2"  # empty: not installed
    driver_accepts: str = "[7.0.0,7.9.99]"
    firmware: str = "7.8.0.6.201"
    firmware_accepts: str = "[25.0.rc1,25.5.9]"
    canns: tuple[str, ...] = ("9.0.0",)  # the first is the default one
    parts: dict = field(default_factory=dict)  # component to another version than the first CANN's
    nnal: str = "9.0.0"
    kernels: bool = True
    python: str = "3.11"
    architecture: str = "aarch64"
    glibc: str = "2.35"
    container: bool = False
    mounts: bool = True
    nodes: bool = True
    rights: bool = True
    docker: bool = False
    hbm: int = 65536  # MB, a die
    used: int = 3318  # MB in use on each die
    processes: tuple = ()  # (npu, pid, name, MB)
    health: dict = field(default_factory=dict)  # NPU to its word in the table
    codes: dict = field(default_factory=dict)  # NPU to what -t health says
    npu_smi: str = ""  # what it prints in place of answers; "hangs"; "absent"
    environment: dict = field(default_factory=dict)
    sourced: bool = True  # whether CANN's set_env.sh was
    hccn: bool = True  # whether the devices' network addresses are there
    named: bool = True  # whether the user's number has a name
    memory_gb: int = 1500
    disk_gb: int = 900
    probe: str = ""  # what torch_npu says when it is tried

    @property
    def dies(self) -> int:
        return 2 if self.chip.startswith("Ascend910_") else 1

    @property
    def cann_root(self) -> str:
        "Where the first CANN lies."
        new = in_new_place(self.canns[0])
        return "/usr/local/Ascend/cann" if new else "/usr/local/Ascend/ascend-toolkit/latest"

    def variables(self) -> dict[str, str]:
        "The environment; of what set_env.sh sets the one that torch_npu asks for."
        set_by_cann = {"ASCEND_HOME_PATH": self.cann_root} if self.canns and self.sourced else {}
        return set_by_cann | self.environment

    def pci(self) -> str:
        return self.device or next(
            number for beginning, number in DEVICE_OF.items() if self.chip.startswith(beginning)
        )

    def files(self) -> dict[str, str | None]:
        "Paths and texts."
        found = {"/proc/meminfo": f"MemTotal: 1\nMemAvailable:   {self.memory_gb * 1_000_000} kB\n"}
        if self.container:
            found["/.dockerenv"] = ""
        if self.docker:
            found["/usr/bin/docker"] = None
        if self.hccn and self.chip and self.mounts:
            found["/etc/hccn.conf"] = None
        if not self.chip:
            return found
        for die in range(self.npus * self.dies):
            at = f"/sys/bus/pci/devices/0000:{die + 1:02x}:00.0"
            found |= {f"{at}/vendor": "0x19e5\n", f"{at}/device": f"{self.pci()}\n"}
            if self.nodes:
                found[f"/dev/davinci{die}"] = None
        found |= {
            "/sys/bus/pci/devices/0000:f0:00.0/vendor": "0x19e5\n",
            "/sys/bus/pci/devices/0000:f0:00.0/device": "0xa250\n",
        }  # a zip engine
        if self.nodes:
            found |= dict.fromkeys(("/dev/davinci_manager", "/dev/devmm_svm", "/dev/hisi_hdc"))
        return (
            found | (self.driver_files() if self.driver and self.mounts else {}) | self.cann_files()
        )

    def driver_files(self) -> dict[str, str | None]:
        root = "/usr/local/Ascend"
        return {
            "/etc/ascend_install.info": f"UserName=HwHiAiUser\nUserGroup=HwHiAiUser\n"
            f"Driver_Install_Path_Param={root}\nDriver_Install_For_All=no\n"
            "Driver_Install_Status=complete\n",
            f"{root}/driver/version.info": f"Version={self.driver}\nInnerversion=V100R001\n"
            f"compatible_version_fw={self.driver_accepts}\npackage_version={self.driver}\n",
            f"{root}/firmware/version.info": f"Version={self.firmware}\n"
            f"package_version={self.driver}\ncompatible_version_drv={self.firmware_accepts}\n",
            f"{root}/driver/lib64/driver/libascend_hal.so": None,
            "/usr/local/dcmi/libdcmi.so": None,
        }

    def cann_files(self) -> dict[str, str | None]:
        found = {}
        for place, version in enumerate(self.canns):
            new = in_new_place(version)
            root = self.cann_root if place == 0 else f"/usr/local/Ascend/ascend-toolkit/{version}"
            found[f"{root}/version.cfg"] = (
                f"# version: 1.0\ntoolkit_running_version=[7.7.0.1.238:{version}]\n"
            )
            found[f"{root}/{self.architecture}-linux/ascend_toolkit_install.info"] = (
                f"package_name=Ascend-cann-toolkit\nversion={version}\narch={self.architecture}\n"
            )
            for part in ("compiler", "opp", "runtime"):
                here = self.parts.get(part, version) if place == 0 else version
                found[f"{root}/{part}/version.info"] = (
                    f"Version={here}\n" if new else f"Version=7.7.0.1.238\nversion_dir={here}\n"
                )
            if self.pci() in FOLDER_OF:
                found[f"{root}/{KERNELS}/{FOLDER_OF[self.pci()]}"] = None
            if self.kernels:
                found[
                    f"{root}/{self.architecture}-linux/ascend_ops_install.info"
                    if new
                    else f"{root}/opp_kernel/version.info"
                ] = f"version={version}\n"
        if self.nnal:
            found["/usr/local/Ascend/nnal/atb/latest/version.info"] = (
                f"Ascend-cann-atb : {self.nnal}\n"
            )
            found |= dict.fromkeys(
                (f"/usr/local/Ascend/nnal/atb/latest/atb/cxx_abi_{number}" for number in (0, 1))
            )
        return found

    def answers(self) -> dict[str, str | None]:
        "What commands print; None: they hang."
        found = {
            "uname -sm": f"Linux {self.architecture}\n",
            "getconf GNU_LIBC_VERSION": f"glibc {self.glibc}\n",
            "nproc": "192\n",
        }
        if self.probe:
            found["torch_npu"] = self.probe
        if not self.chip or self.npu_smi == "absent" or not (self.driver and self.mounts):
            return found
        if self.npu_smi:
            return found | {"npu-smi info": None if self.npu_smi == "hangs" else self.npu_smi}
        found |= {
            "npu-smi info": self.table(),
            "npu-smi info -m": self.chip_map(),
            "npu-smi info -t board -i 0 -c 0": self.board(),
        }
        for npu in range(self.npus):
            fits = "OK" if self.firmware_accepts else "NOK"
            found[f"npu-smi info -t board -i {npu}"] = facts(
                ("NPU ID", npu),
                ("Software Version", self.driver),
                ("Firmware Version", self.firmware),
                ("Compatibility", fits),
                ("Board ID", "0xb0"),
                ("Chip Count", self.dies),
                ("Serial Number", "033EFS1000000000"),
            )
            found[f"npu-smi info -t health -i {npu}"] = self.codes.get(npu) or facts(
                ("Health Status", "OK"), ("Error Code", "NA"), ("Error Information", "NA")
            )
        return found

    def table(self) -> str:
        "The table of `npu-smi info`, in the layout of the chip."
        rule, wide = (
            f"+{'-' * 27}+{'-' * 15}+{'-' * 52}+",
            "+" + "-" * 96 + "+",
        )
        second = "Chip  Phy-ID" if self.dies == 2 else "Chip"
        rows = [
            wide,
            f"| {f'npu-smi {self.driver}':32} Version: {self.driver:52} |",
            rule,
            "| NPU   Name                | Health        "
            "| Power(W)    Temp(C)           Hugepages-Usage(page)|",
            f"| {second:26}| Bus-Id        | AICore(%)   Memory-Usage(MB)  HBM-Usage(MB)        |",
            rule.replace("-", "="),
        ]
        name = "Ascend910" if self.dies == 2 else self.chip
        for npu in range(self.npus):
            for die in range(self.dies):
                number = npu * self.dies + die
                left = f"{die:<5} {number}" if self.dies == 2 else f"{die}"
                power = "-" if die else "92.5"
                rows += [
                    f"| {npu:<5} {name:20}| {self.health.get(npu, 'OK'):14}"
                    f"| {power:12}{40:<18}0    / 0             |",
                    f"| {left:26}| 0000:{number + 1:02X}:00.0  "
                    f"| 0           0    / 0          {self.used:<5}/ {self.hbm:<14}|",
                    rule if die < self.dies - 1 else rule.replace("-", "="),
                ]
        rows += [
            rule,
            "| NPU     Chip              | Process id    "
            "| Process name             | Process memory(MB)      |",
            rule.replace("-", "="),
        ]
        for npu in range(self.npus):
            mine = [each for each in self.processes if each[0] == npu]
            rows += [
                f"| {npu:<8}{0:<18}| {pid:<14}| {name:<25}| {size:<24}|"
                for _, pid, name, size in mine
            ] or [f"| No running processes found in NPU {npu:<61}|"]
            rows.append(rule.replace("-", "="))
        return "\n".join(rows) + "\n"

    def chip_map(self) -> str:
        names = [
            "NPU ID",
            "Chip ID",
            "Chip Logic ID",
            *(["Chip Phy-ID"] if self.dies == 2 else []),
            "Chip Name",
        ]
        rows = [
            [
                npu,
                die,
                npu * self.dies + die,
                *([npu * 2 + die] if self.dies == 2 else []),
                f"Ascend {self.chip}" if self.dies == 1 else "Ascend910",
            ]
            for npu in range(self.npus)
            for die in range(self.dies)
        ]
        return "".join(
            "\t" + "".join(f"{cell!s:<31}" for cell in row).rstrip() + "\n"
            for row in [names, *rows]
        )

    def board(self) -> str:
        if self.dies == 2:
            return facts(
                ("NPU ID", 0),
                ("NPU Name", self.chip.partition("_")[2]),
                ("Chip ID", 0),
                ("Chip Name", "Ascend910"),
                ("VDie ID", "42C711D4 20B03704"),
            )
        return facts(
            ("NPU ID", 0), ("Chip ID", 0), ("Chip Type", "Ascend"), ("Chip Name", self.chip)
        )

    def host(self) -> RecordedHost:
        "The machine as a record."
        nodes = [path for path in self.files() if path.startswith("/dev/")]
        return RecordedHost(
            self.files(),
            self.answers(),
            [] if self.rights else nodes,
            self.variables(),
            ["HwHiAiUser"] if self.rights else [],
            self.python,
            self.disk_gb * 10**9,
            self.named,
        )

    def lay_out(self, root: Path) -> "RootedHost":
        "The machine as a folder, with programs in it that answer."
        for path, text in self.files().items():
            at = root / path.lstrip("/")
            at.parent.mkdir(parents=True, exist_ok=True)
            at.write_text(text or "")
        programs = root / "usr/local/bin"
        programs.mkdir(parents=True, exist_ok=True)
        for name in {each.split()[0] for each in self.answers()}:
            said = root / "answers" / name
            said.mkdir(parents=True, exist_ok=True)
            for command, text in self.answers().items():
                if command.split()[0] == name:
                    (said / "_".join(["answer", *command.split()[1:]])).write_text(
                        "hang" if text is None else text
                    )
            (programs / name).write_text(
                f'#!/bin/sh\nIFS=_\nset -- answer "$@"\nanswer="{said}/$*"\n'
                'if [ "$(head -c 5 "$answer")" = hang ]; then exec sleep 3600; fi\n'
                'cat "$answer" 2>/dev/null || echo "Command or option is not found."\n'
            )
            (programs / name).chmod(0o755)
        return RootedHost(root)


def in_new_place(cann: str) -> bool:
    "Whether a CANN is of those that lie below /usr/local/Ascend/cann."
    return cann.split(".")[0] >= "9" or cann.startswith("8.5")


def facts(*pairs) -> str:
    "Lines of `name : value`, as npu-smi prints them."
    return "".join(f"\t{name:<30} : {value}\n" for name, value in pairs)


class RootedHost(Host):
    "A machine below a folder: real files, real programs."

    def __init__(self, root: Path):
        self.root = root

    def text(self, path, limit=1_000_000):
        return super().text(f"{self.root}{path}", limit)

    def exists(self, path):
        return super().exists(f"{self.root}{path}")

    def paths(self, pattern):
        return [
            path.removeprefix(str(self.root)) for path in super().paths(f"{self.root}{pattern}")
        ]

    def may_open(self, path):
        return super().may_open(f"{self.root}{path}")

    def in_group(self, name):
        return False

    def environment(self):
        return {}

    def run(self, args, timeout=5.0, name="", environment=None) -> Completed:
        return run_bounded(
            [f"{self.root}/usr/local/bin/{args[0]}", *args[1:]],
            timeout,
            {"PATH": os.environ["PATH"]},
        )


A2 = Simulated()
A3 = Simulated(
    chip="Ascend910_9392",
    driver="25.2.0",
    firmware="7.7.0.6.236",
    canns=("8.2.RC1",),
    nnal="8.2.RC1",
)
OLD_910 = Simulated(
    chip="910B", device="0xd801", hbm=32768, driver="23.0.rc3", canns=("8.0.RC2",), nnal=""
)


@dataclass(frozen=True)
class Expected:
    "What the check has to say of a machine."

    stack: str
    block: tuple[str, ...] = ()
    warn: tuple[str, ...] = ()


MACHINES: dict[str, tuple[Simulated, Expected]] = {
    "a healthy A2": (A2, Expected("cann-9.0")),
    "a healthy A3": (A3, Expected("cann-8.2")),
    "910B4 with 32 GB": (replace(A2, chip="910B4", hbm=32768, used=2654), Expected("cann-9.0")),
    "A2 on x86_64": (replace(A2, architecture="x86_64"), Expected("cann-9.0")),
    "two CANNs": (
        replace(
            A2,
            canns=("9.0.0", "8.2.RC1"),
            environment={
                "ASCEND_HOME_PATH": "/usr/local/Ascend/cann",
                "LD_LIBRARY_PATH": "/usr/local/Ascend/ascend-toolkit/8.2.RC1/lib64"
                ":/usr/local/Ascend/cann/lib64",
            },
        ),
        Expected("cann-9.0", warn=("cann-environment",)),
    ),
    "CANN in parts": (
        replace(A2, parts={"compiler": "9.1.0"}),
        Expected("cann-9.0", warn=("cann-parts",)),
    ),
    "a build stub": (
        replace(
            A2,
            environment={"LD_LIBRARY_PATH": "/usr/local/Ascend/cann/runtime/lib64/stub:/usr/lib"},
        ),
        Expected("cann-9.0", warn=("cann-stub",)),
    ),
    "NNAL missing": (replace(A2, nnal=""), Expected("cann-9.0", warn=("nnal", "stack"))),
    "kernels of another chip": (
        replace(A2, kernels=False),
        Expected("cann-9.0", warn=("cann-kernels",)),
    ),
    "container without mounts": (
        replace(A2, container=True, mounts=False, nodes=False),
        Expected("cann-9.0", ("device-nodes",), ("container", "driver", "npu-smi")),
    ),
    "container with everything": (replace(A2, container=True), Expected("cann-9.0")),
    "no rights": (replace(A2, rights=False), Expected("cann-9.0", ("device-rights",))),
    "busy cards": (
        replace(A2, used=60000, processes=((0, 4711, "mindieservice_b", 57000),)),
        Expected("cann-9.0", warn=("hbm-free",)),
    ),
    "one sick card": (replace(A2, health={3: "Alarm"}), Expected("cann-9.0", warn=("health",))),
    "sick by one of two sources": (
        replace(
            A2,
            codes={
                2: facts(
                    ("Health Status", "Warning"),
                    ("Error Code", "80E01801"),
                    ("Error Information", "temperature"),
                )
            },
        ),
        Expected("cann-9.0", warn=("health",)),
    ),
    "hung npu-smi": (replace(A2, npu_smi="hangs"), Expected("cann-9.0", warn=("npu-smi",))),
    "npu-smi of tomorrow": (
        replace(A2, npu_smi="{'npus': 8}\n"),
        Expected("cann-9.0", warn=("npu-smi",)),
    ),
    "npu-smi fails, torch_npu computes": (
        replace(
            A2, npu_smi="dcmi module initialize failed. ret is -8005\n", nodes=False, probe=PROBE_OK
        ),
        Expected("cann-9.0", warn=("npu-smi", "device-nodes")),
    ),
    "torch_npu does not compute": (
        replace(
            A2,
            probe="ImportError: libhccl.so: cannot open shared object file: "
            "No such file or directory\n",
        ),
        Expected("cann-9.0", ("torch_npu",)),
    ),
    "first generation": (OLD_910, Expected("cpu", warn=("npu",))),
    "an inference card": (
        Simulated(chip="310P3", npus=1, canns=(), nnal=""),
        Expected("cpu", warn=("npu",)),
    ),
    "driver only, with docker": (
        replace(A3, canns=(), nnal="", docker=True),
        Expected("cann-8.2-image"),
    ),
    "driver only": (replace(A2, canns=(), nnal=""), Expected("cann-9.0", ("cann",), ("stack",))),
    "firmware of another age": (
        replace(A2, firmware="6.3.0.1.241"),
        Expected("cann-9.0", warn=("firmware",)),
    ),
    "an old driver": (
        replace(A2, driver="24.1.rc3", firmware_accepts="[24.1.rc1,24.1.9]"),
        Expected("cann-9.0", warn=("driver", "stack")),
    ),
    "a proxy for everything": (
        replace(A2, environment={"http_proxy": "http://proxy.example:8080"}),
        Expected("cann-9.0", warn=("proxy",)),
    ),
    "the wrong Python": (replace(A2, python="3.8"), Expected("cann-9.0", ("python",), ("stack",))),
    "a full disk": (replace(A2, disk_gb=1), Expected("cann-9.0", ("disk",))),
    "none": (Simulated(chip="", driver="", canns=(), nnal=""), Expected("cpu")),
}

# What lies around a server that is whole: its variables, its user, other containers.
SURROUNDINGS: dict[str, tuple[Simulated, Expected]] = {
    "cards busy in a container": (
        replace(A2, container=True, used=60000, processes=((0, 4711, "", 57000),)),
        Expected("cann-9.0", warn=("hbm-free",)),
    ),
    "cards of another container": (
        replace(
            A2,
            container=True,
            npu_smi="dcmi model initialized failed, because the device is used. ret is -8020\n",
        ),
        Expected("cann-9.0", warn=("npu-smi",)),
    ),
    "addresses not mounted": (
        replace(A2, container=True, hccn=False),
        Expected("cann-9.0", warn=("hccn-conf",)),
    ),
    "one card without addresses": (replace(A2, npus=1, hccn=False), Expected("cann-9.0")),
    "a server without addresses": (
        replace(A2, hccn=False),
        Expected("cann-9.0", warn=("hccn-conf",)),
    ),
    "a user without a name": (
        replace(A2, container=True, named=False),
        Expected("cann-9.0", warn=("user",)),
    ),
    "no user's name and no NPU": (
        Simulated(chip="", driver="", canns=(), nnal="", named=False),
        Expected("cpu", warn=("user",)),
    ),
    "CANN not sourced": (
        replace(A2, sourced=False),
        Expected("cann-9.0", warn=("cann-environment",)),
    ),
    "the host's numbers in a container": (
        replace(A2, container=True, npus=2, environment={"ASCEND_RT_VISIBLE_DEVICES": "4,5"}),
        Expected("cann-9.0", ("visible-devices",)),
    ),
    "no device visible": (
        replace(A2, environment={"ASCEND_RT_VISIBLE_DEVICES": ""}),
        Expected("cann-9.0", ("visible-devices",)),
    ),
    "a number too many": (
        replace(A3, environment={"ASCEND_RT_VISIBLE_DEVICES": "14,15,16"}),
        Expected("cann-8.2", warn=("visible-devices",)),
    ),
    "visible devices": (
        replace(A2, environment={"ASCEND_RT_VISIBLE_DEVICES": "6,7"}),
        Expected("cann-9.0"),
    ),
    "the runtime's variable on a host": (
        replace(A2, environment={"ASCEND_VISIBLE_DEVICES": "0-3"}),
        Expected("cann-9.0", warn=("runtime-devices",)),
    ),
    "the runtime's variable with plain docker": (
        replace(A2, container=True, environment={"ASCEND_VISIBLE_DEVICES": "4,5"}),
        Expected("cann-9.0", warn=("runtime-devices",)),
    ),
    "the runtime's variable, read": (
        replace(
            A2,
            container=True,
            environment={"ASCEND_VISIBLE_DEVICES": "0-3", "ASCEND_DOCKER_RUNTIME": "True"},
        ),
        Expected("cann-9.0"),
    ),
}


def shipped() -> dict[str, str]:
    "The records of the package, by file name."
    made = {}
    for name, machine in (("a2", A2), ("a3", A3)):
        recorder = Recorder(machine.host())
        read_machine(recorder)
        made[f"{name}.json"] = record_text(recorder, [])
    return made


if __name__ == "__main__":
    SHIPPED.mkdir(exist_ok=True)
    for name, text in shipped().items():
        json.loads(text)
        (SHIPPED / name).write_text(text, encoding="utf8")
        print(SHIPPED / name, len(text))
    sys.exit(0)
