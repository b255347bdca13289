"""What must not differ from build to build in the root's tree."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import cast

import pytest
from imaging import layers
from imaging.project import Build
from imaging.rootfs import clean, debian
from imaging.steps import Steps
from imaging.toolroot import ToolRoot

TOP = Path(__file__).parent.parent.parent
RELEASE = 1_800_000_000  # s since 1970
NONE = 77  # how a program ends that cannot emulate here
OLDER, YOUNGER = RELEASE - 1000, RELEASE + 1000


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A tree with a package's file, one of its own, and what is made on the machine that built it."""
    monkeypatch.setenv("SOURCE_DATE_EPOCH", str(RELEASE))
    for name in ("usr/lib/x/packaged", "usr/lib/x/patched", "usr/lib/x/generated", "etc/machine-id"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("text")
        os.utime(path, (OLDER, OLDER))
    os.utime(tmp_path / "usr/lib/x/patched", (YOUNGER, YOUNGER))
    info = tmp_path / "var/lib/dpkg/info"
    info.mkdir(parents=True)
    (info / "x.list").write_text("/.\n/lib\n/lib/x\n/lib/x/packaged\n/usr/lib/x/patched\n")
    return tmp_path


def test_only_a_packages_own_files_keep_their_older_dates(root: Path) -> None:
    clean(root)
    dates = {str(p.relative_to(root)): p.lstat().st_mtime for p in [root, *root.rglob("*")]}
    assert dates.pop("usr/lib/x/packaged") == OLDER  # its bytecode knows it by this date
    assert set(dates.values()) == {float(RELEASE)}


def test_what_is_a_machines_own_is_not_in_an_image(root: Path) -> None:
    for name in ("etc/ssh/ssh_host_rsa_key", "var/lib/systemd/random-seed", "etc/shadow-", "var/log/a/x.log"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text("secret")
    clean(root)
    assert not any(path.is_file() and path.read_text() == "secret" for path in root.rglob("*"))
    assert (root / "etc/machine-id").read_text() == ""


class Unpacker:
    """Takes mmdebstrap's command and makes the folder it would have filled."""

    def __init__(self) -> None:
        self.runs = 0

    def run(self, command: list[str], **_: object) -> str:
        self.runs += 1
        Path(command[-2]).mkdir(exist_ok=True)
        return ""


def test_the_packages_of_every_role_are_kept_side_by_side(tmp_path: Path) -> None:
    tools = Unpacker()

    def build_all() -> None:
        for role in layers.ROLES:
            steps = Steps(tmp_path)
            build = Build(
                "amd64", "trixie", "http://mirror", tmp_path, tmp_path, steps, cast(ToolRoot, tools)
            )
            assert debian(build, layers.load(), role).is_dir()

    build_all()
    before = tools.runs
    build_all()
    assert before > len(layers.ROLES)
    assert tools.runs == before


TWICE = """
import shutil, sys
from pathlib import Path
from types import SimpleNamespace
from imaging.namespace import run_inside
from imaging.rootfs import emulate
from imaging.steps import BuildError

NONE = 77  # as below
tree = Path(sys.argv[1])
build = SimpleNamespace(arch="arm64", cache=tree, tools=SimpleNamespace(tree=tree))

def inside():
    try:
        first = emulate(build)
    except BuildError as error:
        print(error)
        return NONE
    print(first == emulate(build) == "a private binfmt_misc with QEMU")
    return 0

sys.exit(run_inside(inside))
"""


@pytest.mark.namespaces
def test_one_run_may_emulate_for_two_images(tmp_path: Path) -> None:
    for name in ("usr/lib/binfmt.d", "usr/libexec"):
        (tmp_path / name).mkdir(parents=True)
    shutil.copy("/bin/true", tmp_path / "usr/libexec/emulator")
    line = r":qemu-aarch64:M::\x01\x02none:\xff\xff\xff\xff\xff\xff:/usr/libexec/emulator:OPF"
    (tmp_path / "usr/lib/binfmt.d/qemu-aarch64.conf").write_text(line + "\n")
    command = [sys.executable, "-c", TWICE, str(tmp_path)]
    done = subprocess.run(command, cwd=TOP / "image-build", capture_output=True, text=True)
    if done.returncode == NONE:
        pytest.skip(done.stdout.strip())
    assert done.stdout == "True\n", done.stderr
