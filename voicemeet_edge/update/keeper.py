"""One update from offer to restart, and one proof after it: carries out what the pure parts decide.

One rule: whatever goes wrong before the restart leaves the running slot as it was; whatever goes wrong after
it leads back there. Each end is one sentence, kept and told.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from voicemeet_edge.records import dataclass
from voicemeet_edge.update.choice import choose, fits, postponed_until
from voicemeet_edge.update.history import History
from voicemeet_edge.update.memory import Memory
from voicemeet_edge.update.server import ServerError, UpdateServer
from voicemeet_edge.update.slots import BundleError, SlotError, Slots
from voicemeet_edge.update.trial import LIMITS_S, FallBack, Proof, Trial, Trust
from voicemeet_edge.update.version import SystemVersion

OTHER = {"a": "b", "b": "a"}
LOOK_S = 5.0  # s between two looks whether a call is over, or a proof is there
SETTLE_LIMIT_S = 120.0  # s an update waits until the start of a trusted system is over
BUSY_LIMIT_S = 6 * 3_600.0  # s an update waits for the end of calls; then the next night


class BusyError(SlotError):
    """No quiet moment came."""

    code = "busy"


@dataclass
class World:
    """What an update asks of the machine around it; tests put their own here."""

    is_idle: Callable[[], bool]
    """Whether no call runs."""
    prove: Callable[[Proof], str]
    """Looks for a proof now: "" when it is there, else what was found instead."""
    restart: Callable[[], None]
    say: Callable[[str], None]
    now: Callable[[], float] = time.time
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


class Keeper:
    """Keeps a system up to date.

    Args:
        memory: what is remembered.
        slots: the two slots.
        version: what runs.
        world: everything around.
    """

    def __init__(self, memory: Memory, slots: Slots, version: str, world: World) -> None:
        self._memory = memory
        self._slots = slots
        self._version = version
        self._world = world
        self._slot = memory.slot()

    # -- before the restart ------------------------------------------------------------------

    def by_itself(self, server: UpdateServer) -> bool:
        """Take what the server offers if it is this device's turn; returns whether it restarts."""
        here = self._slots.here(self._version)
        self._check_trusted()
        self._tell_outcome(server, here.board)
        offer = server.offer(here.board)
        history = self._memory.load()
        if offer is None:
            self._world.say("The update server has nothing for this board.")
            self._memory.tell(history, slot=self._slot)
            return False
        newer = str(offer.version) if offer.version > here.version else ""
        self._memory.tell(history, slot=self._slot, offered=newer)
        answer = choose(offer, here, history, self._world.now())
        self._world.say(answer.why)
        if not answer.take:
            return False
        bundle = self._fetch(server, offer.bundle, size=offer.size, sha256=offer.sha256)
        return self.from_file(bundle, expected=str(offer.version))

    def from_url(self, url: str, *, pin: str, force: bool) -> bool:
        """Take the bundle at an address a person gave."""
        self._check_trusted()
        folder, _, name = url.rpartition("/")
        return self.from_file(self._fetch(UpdateServer(folder, pin=pin), name), force=force)

    def from_file(self, bundle: Path, *, force: bool = False, expected: str = "") -> bool:
        """Write a bundle and restart into it as soon as no call runs; returns whether it restarts."""
        self._check_trusted()
        own = self._bring(bundle)
        try:
            self._write(own, force=force, expected=expected)
        finally:
            own.unlink(missing_ok=True)
        self._wait_for_quiet()
        trial = self._memory.load().trial
        assert trial is not None
        self._world.say(
            f"Version {trial.version} starts now; "
            "it stays if it reaches the hub, its sound and itself in a call."
        )
        self._world.restart()
        return True

    def _check_trusted(self) -> None:
        """Refuse while the running slot is on trial: the other one is what it would go back to."""
        trial = self._memory.load().trial
        if trial is not None and trial.slot == self._slot:
            raise SlotError(
                f"version {trial.version} runs and has yet to prove itself; try again in half an hour",
                code="on_trial",
            )
        self._settle()

    def _settle(self) -> None:
        """Wait until the system has started: an update that is begun before would be taken for ended."""
        trial = self._memory.load().trial
        if trial is not None and trial.slot == self._slot:
            return  # a person leaves it before it has proved itself
        until = self._world.monotonic() + SETTLE_LIMIT_S
        while not self._memory.is_proved and self._world.monotonic() < until:
            self._world.sleep(LOOK_S)

    def _bring(self, bundle: Path) -> Path:
        """Copy a bundle to where only root writes: what was checked is what is written."""
        folder = self._memory.folder
        if bundle.parent == folder:
            return bundle
        folder.mkdir(parents=True, exist_ok=True)
        own = folder / "given.raucb"
        try:
            shutil.copyfile(bundle, own)
        except OSError as error:
            own.unlink(missing_ok=True)
            raise SlotError(
                f"the bundle could not be copied to the data partition: {error.strerror}"
            ) from None
        return own

    def _write(self, bundle: Path, *, force: bool, expected: str) -> None:
        """Check a bundle and write it to the other slot, which is on trial from then on."""
        world, history = self._world, self._memory.load()
        try:
            board, version = self._slots.look_into(bundle)
            answer = fits(board, version, self._slots.here(self._version), force=force)
            if not answer.take:
                raise BundleError(answer.why[0].lower() + answer.why[1:].rstrip("."))
            if expected and str(version) != expected:
                raise BundleError(f"it holds version {version}, and {expected} was offered")
        except BundleError as error:
            self._keep(history.refused(str(error)), refused=True)
            raise
        target = OTHER[self._slot]
        self._wait_for_quiet()
        world.say(f"Version {version} is written to slot {target}; this takes some minutes.")
        self._slots.install(bundle)
        self._begin(version, target)

    def _begin(self, version: SystemVersion, target: str) -> None:
        """Put a slot on trial, then tell the loader: a power cut must not leave one that starts untried."""
        self._memory.forget_state_of(target)
        before = self._memory.load()
        self._keep(before.begins(version, target, self._slot))
        try:
            self._slots.try_other()
        except SlotError:
            self._keep(before)
            raise

    def switch(self) -> bool:
        """Start the other slot on purpose; it has to prove itself as an update has."""
        self._settle()
        target = OTHER[self._slot]
        version = self._slots.version_in(target)
        if version is None:
            raise SlotError("the other slot holds no system", code="empty_slot")
        self._begin(version, target)
        self._wait_for_quiet()
        self._world.say(f"Version {version} in slot {target} starts now.")
        self._world.restart()
        return True

    def postpone(self, days: float) -> None:
        """Let updates rest."""
        until = postponed_until(days, self._world.now())
        self._keep(replace(self._memory.load(), postponed_until=until))
        when = time.strftime("%Y-%m-%d %H:%M", time.localtime(until))
        self._world.say(f"Updates rest until {when}." if days > 0 else "Updates rest no longer.")

    # -- after the restart -------------------------------------------------------------------

    def prove(self, limit_s: float | None = None) -> bool:
        """Trust the slot that runs, or go back; returns whether it is trusted.

        `limit_s` is for each proof, where a test cannot wait for what the product allows.
        """
        history, world = self._memory.load(), self._world
        trial = history.trial
        if trial is None:
            self._slots.trust_running()
            self._keep(self._memory.load())  # a person may have postponed updates meanwhile
            self._memory.proved()
            return True
        if trial.slot != self._slot:
            why = "it did not start, or was started again before it had proved itself"
            self._slots.trust_running()
            self._slots.forget_other()
            self._keep(history.fell_back(why, world.now()))
            self._memory.proved()
            world.say(f"Version {trial.version} is not used: {why}.")
            return True
        limits_s = LIMITS_S if limit_s is None else {proof: min(limit_s, LIMITS_S[proof]) for proof in Proof}
        verdict = self._watch(Trial(world.monotonic(), limits_s))
        if isinstance(verdict, Trust):
            self._slots.trust_running()
            self._keep(history.proved())
            self._memory.proved()
            world.say(f"Version {trial.version} has proved itself and stays.")
            return True
        self._slots.leave_running()
        self._keep(history.fell_back(verdict.why, world.now()))
        world.say(f"Version {trial.version} is taken back: {verdict.why}.")
        with contextlib.suppress(BusyError):
            self._wait_for_quiet()
        world.restart()
        return False

    def _watch(self, trial: Trial) -> Trust | FallBack:
        while True:
            missing = trial.missing
            if missing is not None:
                doubt = self._world.prove(missing)
                if not doubt:
                    trial.saw(missing)
                    continue
                trial.doubted(missing, doubt)
            verdict = trial.verdict(self._world.monotonic())
            if verdict is not None:
                return verdict
            self._world.sleep(LOOK_S)

    # -- both --------------------------------------------------------------------------------

    def _wait_for_quiet(self) -> None:
        until = self._world.monotonic() + BUSY_LIMIT_S
        told = False
        while not self._world.is_idle():
            if not told:
                self._world.say("A call runs: the update waits for its end.")
                told = True
            if self._world.monotonic() > until:
                raise BusyError("no quiet moment came within six hours; the next night tries again")
            self._world.sleep(LOOK_S)

    def _fetch(self, server: UpdateServer, name: str, *, size: int | None = None, sha256: str = "") -> Path:
        tenths = [0]

        def progress(done: int, whole: int) -> None:
            if done * 10 // whole > tenths[0]:
                tenths[0] = done * 10 // whole
                self._world.say(f"Fetched {tenths[0] * 10} % of {whole / 1e6:.0f} MB.")

        self._memory.folder.mkdir(parents=True, exist_ok=True)
        return server.fetch(name, self._memory.folder, size=size, sha256=sha256, progress=progress)

    def _tell_outcome(self, server: UpdateServer, board: str) -> None:
        history = self._memory.load()
        if not history.untold:
            return
        version, _, outcome = history.untold.partition(" ")
        with contextlib.suppress(ServerError):
            server.report(board, version, good=outcome == "good")
            self._memory.save(replace(history, untold=""))

    def _keep(self, history: History, *, refused: bool = False) -> None:
        self._memory.save(history)
        self._memory.tell(history, slot=self._slot, refused=refused)


def restart_machine() -> None:
    """Start the machine again, in order; `systemctl reboot` asks logind, which the image does not have."""
    words = ["systemctl", "start", "reboot.target", "--job-mode=replace-irreversibly", "--no-block"]
    subprocess.run(words, check=False, timeout=60)
