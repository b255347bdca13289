"""The root file system: Debian's packages by mmdebstrap, for a foreign architecture too, then our layers."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

from imaging import layers as layering
from imaging.apt import sha256
from imaging.layers import Layer
from imaging.project import Build
from imaging.steps import BuildError, remove, say
from imaging.toolroot import sources

# Never unpacked: nobody reads them on a device. Licences stay.
_EXCLUDED = ("/usr/share/man/*", "/usr/share/locale/*", "/usr/share/info/*", "/usr/share/doc/*")
_INCLUDED = ("/usr/share/doc/*/copyright",)
_PRIVATE = "a private binfmt_misc with QEMU"
_BINFMT = "usr/lib/binfmt.d/qemu-aarch64.conf"


def emulate(build: Build) -> str:
    """Let programs of the image's architecture run in our namespace; say how, "" when nothing is needed.

    Kernels since 6.7 have a binfmt_misc for each user namespace, so the host's is never touched.
    """
    if build.arch == "amd64":
        return ""
    point = build.cache / "binfmt"
    point.mkdir(exist_ok=True)
    if (point / "qemu-aarch64").exists():  # by this build's image of another role
        return _PRIVATE
    done = subprocess.run(
        ["mount", "-t", "binfmt_misc", "none", str(point)], capture_output=True, check=False
    )
    if done.returncode == 0 and (point / "register").exists():
        for line in (build.tools.tree / _BINFMT).read_text().splitlines():
            if line.startswith(":qemu-aarch64:"):
                (point / "register").write_text(_inside(line, build.tools.tree))
                return _PRIVATE
    registered = Path("/proc/sys/fs/binfmt_misc/qemu-aarch64")
    if registered.exists():
        return "the host's binfmt_misc with QEMU"
    raise BuildError(
        "this kernel has no binfmt_misc of its own for a user namespace (needs Linux 6.7): register "
        "qemu-aarch64 on the host (Debian: qemu-user-binfmt), or build on a newer kernel"
    )


def _inside(line: str, tree: Path) -> str:
    """Name the emulator where it is for us; flag F opens it now, so that it works inside any root."""
    fields = line.split(":")
    fields[6] = str(tree) + fields[6]
    fields[7] = "".join(sorted(set(fields[7]) | {"F"}))
    return ":".join(fields)


def debian(build: Build, layers: list[Layer], role: str) -> Path:
    """Return the cached tree of Debian's packages for this role.

    Each layer's packages are installed on top of the layers below and kept: emulated, the lowest takes a
    quarter of an hour or more, and what comes on top of it minutes.
    """
    how = emulate(build)
    if how:
        say(f"  {build.arch} programs are run by {how}")
    tree: Path | None = None
    whose = ""  # from the first layer with packages for this role on, everything is this role's
    for layer in layers:
        if names := layer.packages(role):
            if layer.packages("") != names:
                whose = f"-{role}"
            tree = _on_top(build, f"{layer.name}{whose}", names, tree)
    if tree is None:
        raise BuildError("no layer names a package")
    return tree


def _on_top(build: Build, name: str, names: list[str], below: Path | None) -> Path:
    """Return the cached tree of a layer's packages on the tree below; the lower ones serve every role."""

    def make(path: Path) -> None:
        archives = build.cache / f"archives-{build.suite}-{build.arch}"
        archives.mkdir(exist_ok=True)
        if below is not None:
            subprocess.run(["cp", "-a", "--reflink=auto", str(below), str(path)], check=True)
            (path / "etc/resolv.conf").unlink(
                missing_ok=True
            )  # a link into /run, which mmdebstrap cannot follow
        command = [*_mmdebstrap(build, archives, names, fresh=below is None), build.suite, str(path), "-"]
        log = build.cache / f"debian-{name}-{build.arch}.log"
        log.unlink(missing_ok=True)
        build.tools.run(command, stdin=sources(build.mirror, build.suite).encode(), log=log)

    under = below.name if below is not None else ""
    ingredients = [under, names, build.suite, build.mirror, _EXCLUDED, 1]  # 1: the way it is made
    return build.steps.keep(
        f"Debian {build.suite} for {build.arch}, {name}: {len(names)} packages and what they need",
        f"debian-{name}-{build.arch}",
        ingredients,
        make,
    )


def _mmdebstrap(build: Build, archives: Path, names: list[str], *, fresh: bool) -> list[str]:
    """The command for an empty folder, or for one that has a system already, without suite and target."""
    command = ["mmdebstrap", "--mode=root", f"--arch={build.arch}"]
    command += ["--skip=chroot/mount/sys", "--skip=output/dev", "--skip=check/qemu"]
    command += ["--skip=download/empty", "--skip=essential/unlink", "--skip=cleanup/apt/cache"]
    command += ["--aptopt=APT::Install-Recommends false", "--aptopt=Acquire::Languages none"]
    command += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    command += [f"--dpkgopt=path-include={pattern}" for pattern in _INCLUDED]
    command += ["--dpkgopt=force-unsafe-io"]
    # The download cache is moved in and out by hard links: a second build fetches nothing.
    kept = "$1/var/cache/apt/archives"
    command += [f"--setup-hook=mkdir -p {kept}; cp -al {archives}/. {kept}/"]
    # The postinst makes host keys where there are none, which takes minutes under emulation: a device
    # makes its own, and clean() removes these.
    keys = " ".join(f"$1/etc/ssh/ssh_host_{kind}_key" for kind in ("rsa", "ecdsa", "ed25519"))
    if fresh:
        command += ["--variant=essential", f"--include={','.join(names)}"]
        command += [f"--essential-hook=mkdir -p $1/etc/ssh; touch {keys}"]
    else:
        # mmdebstrap has no variant that adds to what is there, so its own call of apt is made in a hook.
        apt = "APT_CONFIG=$MMDEBSTRAP_APT_CONFIG apt-get --yes -o DPkg::Chroot-Directory=$1"
        apt += " -o Dir::Bin::dpkg=env -o DPkg::Options::=--unset=TMPDIR -o DPkg::Options::=dpkg install"
        command += ["--variant=custom", "--skip=check/empty"]
        command += [f"--customize-hook=touch {keys}; {apt} {' '.join(names)} >&2"]
    command += [f"--customize-hook=cp -alf {kept}/*.deb {archives}/; rm -rf $1/var/cache/apt"]
    return command


def installed(build: Build, root: Path) -> dict[str, tuple[str, str]]:
    """What dpkg says is installed: {name: (version, SHA-256 of its .deb)}."""
    archives = build.cache / f"archives-{build.suite}-{build.arch}"
    found = {}
    for name, version, arch in packages_of(root):
        deb = archives / f"{name}_{version.replace(':', '%3a')}_{arch}.deb"
        if deb.exists():
            found[name] = (version, sha256(deb))
    return found


def packages_of(root: Path) -> list[tuple[str, str, str]]:
    """Name, version and architecture of each installed package, from dpkg's status file."""
    rows = []
    for paragraph in (root / "var/lib/dpkg/status").read_text().split("\n\n"):
        fields = dict(
            line.split(": ", 1)
            for line in paragraph.splitlines()
            if ": " in line and not line.startswith(" ")
        )
        if fields.get("Status", "").endswith(" installed"):
            rows.append((fields["Package"], fields["Version"], fields["Architecture"]))
    return sorted(rows)


def system(
    build: Build, layers: list[Layer], role: str, chosen: dict[str, str], base: Path, debs: list[Path]
) -> Path:
    """Return the cached finished tree: Debian's of `base`, our packages, the layers' files."""
    wanted = [deb for deb in debs if role != "device" or deb.name.startswith("voicemeet-edge")]

    def make(path: Path) -> None:
        subprocess.run(["cp", "-a", "--reflink=auto", str(base), str(path)], check=True)
        try:
            _install(build, path, wanted)
            for layer in layers:
                layering.apply(layer, build.tools, path, role=role, arch=build.arch, chosen=chosen)
            clean(path)
        except BaseException:
            remove(path)
            raise

    folder = Path(__file__).resolve().parent.parent / "layers"
    project = folder.parent.parent
    ingredients = [
        base.name,
        folder,
        project / "systemd",
        sorted(chosen.items()),
        wanted,
    ]
    return build.steps.keep(
        f"the {role}'s system for {build.arch}",
        f"system-{role}-{build.arch}",
        [*ingredients, *(d for d in wanted)],
        make,
    )


def _install(build: Build, root: Path, debs: list[Path]) -> None:
    """Install our packages as any administrator would, with dpkg inside the tree."""
    for deb in debs:
        shutil.copy(deb, root / "tmp" / deb.name)
    names = [f"/tmp/{deb.name}" for deb in debs]
    # env -i: the tree's own world. Recommends of theirs are in the layers.
    env = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "DEBIAN_FRONTEND=noninteractive", "LC_ALL=C"]
    env.append(f"SOURCE_DATE_EPOCH={os.environ['SOURCE_DATE_EPOCH']}")  # of the users' entries in /etc/shadow
    command = ["chroot", str(root), *env, "dpkg", "--force-unsafe-io", "-i", *names]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BuildError(f"dpkg -i in the image: {(done.stdout + done.stderr)[-2000:]}")
    for name in names:
        (root / name.lstrip("/")).unlink()


# Keys, seeds, copies, logs: what differs from build to build, or must be made on the device itself.
_NOT_IN_AN_IMAGE = (
    *("etc/ssh/ssh_host_*", "etc/*-", "var/lib/systemd/random-seed", "var/lib/systemd/catalog/database"),
    *(
        "var/lib/dpkg/*-old",
        "var/lib/dpkg/lock*",
        "var/lib/dpkg/triggers/Lock",
        "var/cache/ldconfig/aux-cache",
    ),
    *("var/log/**/*.log", "root/.*", "tmp/*", "dev/*"),
)


def clean(root: Path) -> None:
    """Take away what differs from build to build, or must be made on the device itself."""
    (root / "etc/machine-id").write_text("")
    for pattern in _NOT_IN_AN_IMAGE:
        for found in root.glob(pattern):
            if found.name not in (".", ".."):
                remove(found)
    _date(root, int(os.environ["SOURCE_DATE_EPOCH"]))


def _date(root: Path, epoch: int) -> None:
    """Give the release's date to everything but the files of packages, whose bytecode knows their own.

    Kept trees are older than the commit that is built, so to date back what is younger is not enough.
    """
    packaged = _packaged(root)
    for path in [root, *root.rglob("*")]:
        found = path.lstat()
        own = stat.S_ISREG(found.st_mode) and str(path.relative_to(root)) in packaged
        if not own or found.st_mtime > epoch:
            os.utime(path, (epoch, epoch), follow_symlinks=False)


def _packaged(root: Path) -> set[str]:
    """Every path that a package says is its own, relative to the root, where merged /usr puts it."""
    paths = set()
    for listing in (root / "var/lib/dpkg/info").glob("*.list"):
        for line in listing.read_text().splitlines():
            path = line.lstrip("/")
            merged = path.split("/")[0] in ("bin", "sbin", "lib", "lib64")
            paths.add(f"usr/{path}" if merged else path)
    return paths
