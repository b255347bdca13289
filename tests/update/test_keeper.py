"""One update from offer to restart, and its proof; time is moved by hand, and RAUC answers as it is told."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from voicemeet_edge.update.choice import MAX_POSTPONE_DAYS
from voicemeet_edge.update.keeper import BUSY_LIMIT_S, BusyError, Keeper, World
from voicemeet_edge.update.memory import Memory
from voicemeet_edge.update.offer import UpdateOffer
from voicemeet_edge.update.server import ServerError, UpdateServer
from voicemeet_edge.update.slots import BundleError, SlotError, Slots
from voicemeet_edge.update.trial import LIMITS_S, Proof
from voicemeet_edge.update.version import SystemVersion

BOARD = "voicemeet-edge-device-arm64"
NEW = SystemVersion(0, 2, 0)
WRITTEN = ["install", "mark-active other", "restart"]


@dataclass
class Bench:
    """A machine with two slots."""

    folder: Path
    slot: str = "a"
    version: str = "0.1.0"
    time: float = 1_000.0
    idle_from: float = 0.0
    proofs: dict[Proof, float] = field(default_factory=lambda: dict.fromkeys(Proof, 0.0))
    """From when on each proof is there."""
    said: list[str] = field(default_factory=list)
    done: list[str] = field(default_factory=list)
    """What RAUC was asked, and restarts."""
    bundle: tuple[str, str] = (BOARD, "0.2.0")
    install_fails: bool = False
    signature_fails: bool = False
    mark_fails: bool = False
    at_sleep: Callable[[], object] | None = None
    """What else happens while somebody waits."""
    at_mark: Callable[[], object] | None = None
    """And while the loader is told something."""
    trial_at_mark: bool = False
    """Whether the trial was kept when the loader was told of it."""

    def __post_init__(self) -> None:
        (self.folder / "run").mkdir()
        (self.folder / "system.conf").write_text(f"[system]\ncompatible={BOARD}\n")
        (self.folder / "bundle.raucb").write_bytes(b"bundle")
        self.start("a", self.version)
        self.memory = Memory(self.folder / "data", self.folder / "run")

    def start(self, slot: str, version: str) -> None:
        """Start the machine from a slot."""
        self.slot, self.version = slot, version
        (self.folder / "run/slot").write_text(slot)
        (self.folder / "run/proved").unlink(missing_ok=True)

    def keeper(self) -> Keeper:
        slots = Slots(self.folder / "run", conf=self.folder / "system.conf", run=self._rauc)
        world = World(
            is_idle=lambda: self.time >= self.idle_from,
            prove=lambda proof: "" if self.time >= self.proofs[proof] else "not there",
            restart=lambda: self.done.append("restart"),
            say=self.said.append,
            now=lambda: 1_800_000_000 + self.time,
            monotonic=lambda: self.time,
            sleep=self._sleep,
        )
        return Keeper(self.memory, slots, self.version, world)

    def _sleep(self, seconds: float) -> None:
        self.time += seconds
        if self.at_sleep is not None:
            self.at_sleep()

    def _rauc(self, words: Sequence[str], _limit_s: float) -> subprocess.CompletedProcess[str]:
        if words[1] == "info":
            out = json.dumps({"compatible": self.bundle[0], "version": self.bundle[1]})
            error = "signature verification failed" if self.signature_fails else ""
            return subprocess.CompletedProcess(list(words), int(self.signature_fails), out, error)
        self.done.append(words[1] if words[1] == "install" else " ".join(words[2:]))
        if self.at_mark is not None:
            self.at_mark()
        if words[2:] == ["mark-active", "other"]:
            self.trial_at_mark = self.memory.load().trial is not None
        fails = self.install_fails if words[1] == "install" else self.mark_fails
        status = int(fails)
        return subprocess.CompletedProcess(list(words), status, "", "no room" if status else "")


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def told(bench: Bench) -> dict[str, object]:
    """What the running device can read of updates."""
    table: dict[str, object] = json.loads((bench.folder / "run/update.json").read_text())
    return table


def take(bench: Bench, *, force: bool = False) -> bool:
    return bench.keeper().from_file(bench.folder / "bundle.raucb", force=force)


def test_a_good_update_is_written_started_proved_and_kept(bench: Bench) -> None:
    assert take(bench)
    assert bench.done == WRITTEN
    assert bench.memory.load().trial is not None
    bench.start("b", "0.2.0")
    bench.proofs[Proof.SIGNALING] = bench.time + 60
    assert bench.keeper().prove()
    assert bench.done[3:] == ["mark-good booted", "mark-active booted"]
    assert (bench.folder / "run/proved").exists()
    assert bench.memory.load().last == "Updated to 0.2.0."


@pytest.mark.parametrize("proof", Proof)
def test_an_unhealthy_one_is_taken_back_and_says_why(bench: Bench, proof: Proof) -> None:
    take(bench)
    bench.start("b", "0.2.0")
    bench.proofs[proof] = float("inf")
    began = bench.time
    assert not bench.keeper().prove()
    assert bench.time - began <= LIMITS_S[proof] + 10
    assert bench.done[3:] == ["mark-bad booted", "mark-active other", "restart"]
    assert "not there" in bench.memory.load().last
    assert not (bench.folder / "run/proved").exists()
    bench.start("a", "0.1.0")
    assert bench.keeper().prove()
    assert "taken back" in str(told(bench)["last"])


def test_one_that_never_started_is_found_by_the_old_one(bench: Bench) -> None:
    take(bench)
    assert bench.keeper().prove()  # still slot a: the loader gave b up
    assert bench.done[3:] == ["mark-good booted", "mark-active booted", "mark-bad other"]
    assert "did not start" in bench.memory.load().last


def test_without_a_trial_the_slot_gets_its_starts_back_at_once(bench: Bench) -> None:
    bench.proofs[Proof.SIGNALING] = float("inf")
    began = bench.time
    assert bench.keeper().prove()
    assert bench.time == began
    assert bench.done == ["mark-good booted", "mark-active booted"]
    # An update that is written soon after the start and waits for a call must not meet the trial's limit.
    assert (bench.folder / "run/proved").exists()


def test_an_update_in_the_first_seconds_is_not_taken_for_ended(bench: Bench) -> None:
    bench.at_sleep = lambda: bench.keeper().prove()
    take(bench)
    assert bench.done == ["mark-good booted", "mark-active booted", *WRITTEN]
    assert bench.memory.load().trial is not None


def test_what_a_person_postpones_during_the_start_stays(bench: Bench) -> None:
    bench.at_mark = lambda: bench.keeper().postpone(3)
    bench.keeper().prove()
    assert bench.memory.load().postponed_until > 0


def test_while_one_is_on_trial_what_it_would_go_back_to_is_not_written_over(bench: Bench) -> None:
    take(bench)
    bench.start("b", "0.2.0")
    bench.bundle = (BOARD, "0.3.0")
    server = Offers(offer(version=SystemVersion(0, 3, 0)), told=ignore)
    with pytest.raises(SlotError, match="has yet to prove itself"):
        bench.keeper().by_itself(server)
    with pytest.raises(SlotError, match="has yet to prove itself"):
        take(bench, force=True)
    assert server.fetched == 0
    assert bench.keeper().prove()
    assert bench.keeper().by_itself(server)


def test_an_update_waits_for_the_end_of_a_call(bench: Bench) -> None:
    bench.idle_from = bench.time + 900
    take(bench)
    assert bench.time >= bench.idle_from
    assert any("waits for its end" in text for text in bench.said)
    assert bench.done == WRITTEN


def test_an_update_does_not_wait_for_ever(bench: Bench) -> None:
    bench.idle_from = float("inf")
    with pytest.raises(BusyError):
        take(bench)
    assert bench.done == []
    assert bench.time >= BUSY_LIMIT_S


def test_another_board_an_older_version_and_a_wrong_signature_are_refused(bench: Bench) -> None:
    for bundle, words in (
        (("other", "0.2.0"), "other"),
        ((BOARD, "0.0.9"), "older"),
        ((BOARD, "0.1.0"), "runs here"),
    ):
        bench.bundle = bundle
        with pytest.raises(BundleError, match=words):
            take(bench)
        assert words in bench.memory.load().last
        assert told(bench)["refused"] is True
    bench.keeper().prove()
    assert told(bench)["refused"] is False
    bench.done.clear()
    bench.signature_fails = True
    with pytest.raises(BundleError, match="trusts"):
        take(bench, force=True)
    assert bench.done == []


def test_force_goes_back_and_never_to_another_board(bench: Bench) -> None:
    bench.bundle = (BOARD, "0.0.9")
    assert take(bench, force=True)
    bench.bundle = ("other", "0.2.0")
    with pytest.raises(BundleError):
        take(bench, force=True)


def test_a_slot_that_could_not_be_written_changes_nothing(bench: Bench) -> None:
    bench.install_fails = True
    with pytest.raises(SlotError, match="no room"):
        take(bench)
    assert bench.memory.load().trial is None
    assert "restart" not in bench.done


def test_the_loader_hears_of_a_slot_after_its_trial_is_kept(bench: Bench) -> None:
    """The power may go between the two: a slot that starts without a trial is trusted."""
    take(bench)
    assert bench.trial_at_mark


def test_a_slot_that_the_loader_could_not_be_told_of_is_not_on_trial(bench: Bench) -> None:
    bench.mark_fails = True
    with pytest.raises(SlotError, match="boot state"):
        take(bench)
    assert bench.memory.load().trial is None
    assert "restart" not in bench.done


def test_the_other_slot_is_started_on_purpose_and_has_to_prove_itself(bench: Bench) -> None:
    with pytest.raises(SlotError, match="no system"):
        bench.keeper().switch()
    (bench.folder / "run/root_b").write_bytes(b"vm_version=0.0.9\n\0")
    (bench.folder / "data/slots/b").mkdir(parents=True)
    assert bench.keeper().switch()
    assert bench.done == ["mark-active other", "restart"]
    trial = bench.memory.load().trial
    assert trial is not None
    assert (trial.version, trial.slot) == ("0.0.9", "b")
    assert not (bench.folder / "data/slots/b").exists()


class Offers(UpdateServer):
    """A server that has one thing to say."""

    def __init__(self, offer: UpdateOffer | None, *, told: Callable[[str, bool], None]) -> None:
        super().__init__("http://127.0.0.1:1/updates")
        self._one, self._told = offer, told
        self.fetched = 0

    def offer(self, board: str) -> UpdateOffer | None:
        return self._one

    def fetch(self, name: str, folder: Path, **how: object) -> Path:
        self.fetched += 1
        path = folder / "bundle.raucb"
        path.write_bytes(b"bundle")
        return path

    def report(self, board: str, version: str, *, good: bool) -> None:
        self._told(version, good)


def offer(percent: int = 100, version: SystemVersion = NEW) -> UpdateOffer:
    return UpdateOffer(BOARD, version, "x.raucb", 6, "ab" * 32, percent)


def ignore(_version: str, _good: bool) -> None:
    pass


def test_what_is_offered_is_taken_and_its_file_goes(bench: Bench) -> None:
    server = Offers(offer(), told=ignore)
    assert bench.keeper().by_itself(server)
    assert bench.done == WRITTEN
    assert not (bench.memory.folder / "bundle.raucb").exists()


def test_what_is_not_for_us_yet_is_not_even_fetched(bench: Bench) -> None:
    server = Offers(offer(percent=0), told=ignore)
    assert not bench.keeper().by_itself(server)
    assert not bench.keeper().by_itself(Offers(None, told=ignore))
    bench.keeper().postpone(3)
    server = Offers(offer(), told=ignore)
    assert not bench.keeper().by_itself(server)
    assert server.fetched == 0
    assert any("postponed" in text for text in bench.said)
    assert told(bench)["offered"] == "0.2.0"


def test_a_bundle_of_another_version_than_offered_is_refused(bench: Bench) -> None:
    bench.bundle = (BOARD, "0.3.0")
    with pytest.raises(BundleError, match="was offered"):
        bench.keeper().by_itself(Offers(offer(), told=ignore))
    assert bench.done == []


def test_how_it_went_is_told_once_and_again_when_nobody_answered(bench: Bench) -> None:
    take(bench)
    bench.start("b", "0.2.0")
    bench.keeper().prove()
    told: list[tuple[str, bool]] = []

    def deaf(version: str, good: bool) -> None:
        raise ServerError("no answer")

    bench.keeper().by_itself(Offers(None, told=deaf))
    for _ in range(2):
        bench.keeper().by_itself(Offers(None, told=lambda version, good: told.append((version, good))))
    assert told == [("0.2.0", True)]


def test_postponing_has_a_limit_and_an_end(bench: Bench) -> None:
    bench.keeper().postpone(1_000)
    until = bench.memory.load().postponed_until
    assert until <= 1_800_000_000 + bench.time + 86_400 * MAX_POSTPONE_DAYS
    bench.keeper().postpone(0)
    assert bench.said[-1] == "Updates rest no longer."


def test_what_is_written_is_a_copy_only_root_can_change_and_it_goes(bench: Bench) -> None:
    take(bench)
    assert (bench.folder / "bundle.raucb").exists()
    assert list(bench.memory.folder.glob("*.raucb")) == []
    with pytest.raises(SlotError, match="could not be copied"):
        bench.keeper().from_file(bench.folder / "nothing.raucb")
