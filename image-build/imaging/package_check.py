"""Try the packages as an administrator meets them: install, upgrade, remove and purge in a clean Debian."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

from imaging.project import Build, version
from imaging.rootfs import emulate
from imaging.steps import BuildError, remove, say
from imaging.toolroot import sources

_ENVIRONMENT = (
    "env",
    "-i",
    "PATH=/usr/sbin:/usr/bin:/sbin:/bin",
    "DEBIAN_FRONTEND=noninteractive",
    "LC_ALL=C.UTF-8",
)
# What may differ after a purge: caches, logs and the lists of users and of packages.
_MAY_CHANGE = re.compile(
    r"^/(var/(cache|log|lib/(dpkg|apt|systemd|ucf|coturn|sgml-base|dbus))|tmp|proc|sys|dev|run|root"
    r"|etc/(passwd|group|shadow|gshadow|subuid|subgid|.*-$|ld\.so\.cache|systemd/system)|boot/firmware)"
)


def lint(build: Build, debs: list[Path]) -> None:
    """lintian without errors; warnings are printed."""
    told = build.tools.run(["sh", "-c", f"lintian --no-cfg --allow-root {' '.join(map(str, debs))} || true"])
    errors = [line for line in told.splitlines() if line.startswith("E:")]
    for line in told.splitlines():
        say(f"    {line[:140]}")
    if errors:
        raise BuildError(f"lintian has {len(errors)} errors")


def clean_root(build: Build) -> Path:
    """Return a cached minimal Debian with apt, as debootstrap would leave it."""
    emulate(build)

    def make(path: Path) -> None:
        command = [
            "mmdebstrap",
            "--mode=root",
            "--variant=minbase",
            f"--arch={build.arch}",
            "--skip=check/qemu",
        ]
        command += [
            "--skip=chroot/mount/sys",
            "--skip=output/dev",
            "--include=systemd,udev",
            build.suite,
            str(path),
        ]
        build.tools.run([*command, "-"], stdin=sources(build.mirror, build.suite).encode())

    return build.steps.keep(
        f"clean Debian {build.suite} for {build.arch}",
        f"clean-{build.arch}",
        [build.suite, build.mirror, 1],
        make,
    )


class Trial:
    """One copy of the clean root, and what is done in it."""

    def __init__(self, build: Build, debs: list[Path]) -> None:
        self._build, self._debs = build, debs
        self.root = build.cache / f"work-trial-{build.suite}-{build.arch}"
        remove(self.root)
        subprocess.run(["cp", "-a", "--reflink=auto", str(clean_root(build)), str(self.root)], check=True)
        for name in ("proc", "dev"):
            kind = ["-t", "proc", "proc"] if name == "proc" else ["--rbind", str(build.tools.tree / "dev")]
            subprocess.run(["mount", *kind, str(self.root / name)], check=True)
        for path in (Path("/etc/resolv.conf"), Path("/etc/hosts")):
            shutil.copy(path, self.root / path.relative_to("/"))

    def inside(self, *command: str) -> str:
        words = ["chroot", str(self.root), *_ENVIRONMENT, *command]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode:
            raise BuildError(f"{' '.join(command)} in the trial: {(done.stdout + done.stderr)[-3000:]}")
        return done.stdout + done.stderr

    def apt(self, *words: str) -> str:
        return self.inside("apt-get", "-y", "-qq", "--no-install-recommends", *words)

    def files(self) -> set[str]:
        told = self.inside("find", "/", "-xdev", "-not", "-type", "d")
        return {line for line in told.splitlines() if not _MAY_CHANGE.match(line)}

    def newer(self) -> list[str]:
        """The same packages with a higher version, as an upgrade would bring them."""
        made = []
        for deb in self._debs:
            tree = self._build.cache / f"work-newer-{self._build.suite}-{self._build.arch}"
            remove(tree)
            self._build.tools.run(["dpkg-deb", "-R", deb, tree])
            control = tree / "DEBIAN/control"
            control.write_text(control.read_text().replace(version(), f"{version()}+1"))
            name = f"/tmp/{deb.name.replace(version(), version() + '+1')}"
            self._build.tools.run(["dpkg-deb", "-Znone", "--build", tree, self.root / name.lstrip("/")])
            remove(tree)
            made.append(name)
        return made

    def run(self) -> None:
        """Raises BuildError at the first thing that is not as an administrator expects."""
        for deb in self._debs:
            shutil.copy(deb, self.root / "tmp")
        names = [f"/tmp/{deb.name}" for deb in self._debs]
        self.apt("update")
        before = self.files()
        installed_by_apt = self._installed()
        self.apt("install", *names)
        self._expect("the command", "voicemeet-edge " in self.inside("voicemeet-edge", "--version"))
        self._expect(
            "its users", "voicemeet-hub" in self.inside("getent", "passwd", "voicemeet-edge", "voicemeet-hub")
        )
        self._expect(
            "the unit enabled",
            self._enabled("voicemeet-edge.path") or self._enabled("voicemeet-edge.service"),
        )
        self._expect(
            "a read-only check", "apikey" in self._fails("voicemeet-edge", "check", "--config", "/tmp/x.toml")
        )
        settings = self.root / "boot/firmware/voicemeet.toml"
        settings.parent.mkdir(parents=True, exist_ok=True)
        settings.write_text('[backend]\napikey = "kept"\n')
        hub = self.root / "etc/voicemeet/hub.toml"
        hub.write_text(hub.read_text() + "# changed by hand\n")
        self.inside("systemctl", "disable", "voicemeet-hub.service")
        self.apt("install", *self.newer())
        self._expect("settings kept by an upgrade", "kept" in settings.read_text())
        self._expect("a changed conffile kept", "changed by hand" in hub.read_text())
        self._expect("a disabled unit left disabled", not self._enabled("voicemeet-hub.service"))
        self._expect("the new version", f"{version()}+1" in self.inside("dpkg-query", "-W", "voicemeet-edge"))
        self.apt("remove", "voicemeet-edge", "voicemeet-hub")
        self._expect("settings kept by a removal", settings.exists() and hub.exists())
        self._expect("the command gone", not (self.root / "usr/bin/voicemeet-edge").exists())
        self.apt("purge", "voicemeet-edge", "voicemeet-hub")
        self._expect("settings gone with a purge", not settings.exists() and not hub.exists())
        extra = sorted(self._installed() - installed_by_apt)
        if extra:
            self.apt("purge", *extra)
        left = sorted(self.files() - before - {f"/tmp/{p.name}" for p in (self.root / "tmp").iterdir()})
        self._expect(f"nothing left behind ({left[:8]})", not left)

    def _installed(self) -> set[str]:
        told = self.inside("dpkg-query", "-W", "-f", "${db:Status-Abbrev} ${Package}\\n")
        return {line.split()[1] for line in told.splitlines() if line.startswith("ii")}

    def _enabled(self, unit: str) -> bool:
        done = subprocess.run(
            ["chroot", str(self.root), *_ENVIRONMENT, "systemctl", "is-enabled", unit],
            capture_output=True,
            text=True,
        )
        return done.stdout.strip() == "enabled"

    def _fails(self, *command: str) -> str:
        (self.root / "tmp/x.toml").write_text("[backend]\n")
        words = ["chroot", str(self.root), *_ENVIRONMENT, *command]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        if done.returncode != 78:
            raise BuildError(
                f"{' '.join(command)}: ended with {done.returncode}, expected 78: {done.stderr[-500:]}"
            )
        return done.stderr

    def _expect(self, what: str, true: bool) -> None:
        if not true:
            raise BuildError(f"packages on {self._build.suite} {self._build.arch}: expected {what}")
        say(f"    {what}: yes")


def check(build: Build, debs: list[Path]) -> None:
    build.steps.do("lintian", lambda: lint(build, debs))
    trial = Trial(build, debs)
    build.steps.do(f"install, upgrade, remove, purge ({build.suite}, {build.arch})", trial.run)
    subprocess.run(["umount", "-l", str(trial.root / "proc"), str(trial.root / "dev")], check=False)
    remove(trial.root)
