"""What a mistake is answered with: one line that says what is wrong and what to do, and never a traceback.

One table: the mistake, what the command prints. Each runs the real command line.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.hub.running import loopback, run
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.cli import main
from voicemeet_edge.doctor import try_connection
from voicemeet_edge.hub.app import no_relay_warning
from voicemeet_edge.hub.listening import HubError, take_port
from voicemeet_edge.hub.settings import HttpSettings, HubSettings, MatchSettings, TurnSettings
from voicemeet_edge.hub.tls import make_self_signed
from voicemeet_edge.not_connected import NotConnected
from voicemeet_edge.settings import Settings
from voicemeet_edge.system.findings import Finding, Outcome

APIKEY = 'apikey = "aaa.bbb.ccc"\n'
PIN = 'tls_pin = "' + "ab" * 32 + '"\n'
HUB = 'state_dir = "/var/lib/voicemeet-hub"\n'


def backend(more: str = "", url: str = "https://hub.example:8443") -> str:
    return f'[backend]\nurl = "{url}"\n{APIKEY}{more}'


SETTINGS = [
    (backend('tls_pin = "abcd"\n'), "expected nothing or 64 hex digits"),
    (backend(PIN, "http://127.0.0.1:8080"), "expected nothing with an http:// url"),
    (backend(url="https://hub.example:8443/desk/"), "the hub's own address, without what comes after"),
    (backend(url="http://192.0.2.1:8443"), "https://"),
    (backend() + "[cal]\n", 'did you mean "call"?'),
    (backend() + '[call]\nrole = "anwserer"\n', 'one of "caller", "answerer", "either"'),
    (backend() + "[call]\npol = 3\n", 'did you mean "pool"?'),
    (backend() + backend(), "it is there twice (lines 1 and 4)"),
    ("[backend]\nurl = “https://hub.example”\n", 'straight quotes (")'),
    (backend() + '[audio]\nvolume = "loud"\n', "audio.volume"),
    (backend() + '[panel]\ncall_line = "GPIO17"\nreport_line = "PIN11"\n', "these share one: GPIO17, PIN11"),
    (HUB + "[http]\nprot = 3\n", 'did you mean "port"?'),
    ('state_dir = "hub"\n', 'a whole path, such as "/var/lib/voicemeet-hub"'),
    (HUB + "[htp]\n", 'did you mean "http"?'),
    (HUB + '[http]\nnames = ["hub house"]\n', 'a host name or an address, such as "hub.example.org"'),
    (HUB + '[match]\npools = ["Front Desk"]\n', "lower-case letters, digits and -"),
    (HUB + '[turn]\nprovider = "cotrun"\n', '"coturn"'),
    (HUB + HUB, "state_dir once"),
]


@pytest.mark.parametrize(("text", "said"), SETTINGS, ids=[said[:30] for _, said in SETTINGS])
def test_a_wrong_setting(tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    path = tmp_path / "voicemeet.toml"
    path.write_text(text)
    assert main(["check", "--config", str(path)]) == 78
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert "aaa.bbb" not in printed  # no key


def test_a_hubs_settings_are_checked_by_the_same_command(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "hub.toml"
    path.write_text(HUB)
    assert main(["check", "--config", str(path)]) == 0
    assert "all right, for a hub" in capsys.readouterr().out
    assert main(["check", "--connect", "--config", str(path)]) == 1
    assert "is for a device's settings" in capsys.readouterr().err


COMMANDS = [
    (["run", "--config", "{}/none.toml"], 78, "give its path with --config FILE"),
    (["hub", "--config", "{}/none.toml"], 78, "{}/none.toml: (file) = No such file or directory"),
    (["check", "--config", "{}"], 78, "a file, and this is a directory"),
    (["status", "--socket", "{}/none.sock"], 1, "`sudo systemctl start voicemeet-edge` starts it"),
    (["self-test", "--socket", "{}/none.sock"], 1, "`sudo systemctl start voicemeet-edge` starts it"),
    (["pass", "--role", "caller"], 1, "Say it with --pool"),
    (["restore", "{}/none.backup"], 1, "none.backup"),
    (["keygen", "--admission", "lobby"], 1, "key"),
]


@pytest.mark.parametrize(
    ("words", "status", "said"), COMMANDS, ids=[" ".join(one[0][:2]) for one in COMMANDS]
)
def test_a_command_that_cannot_work(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    words: list[str],
    status: int,
    said: str,
) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert main([word.format(tmp_path) for word in words]) == status
    printed = capsys.readouterr().err
    assert said.format(tmp_path) in printed
    assert "Traceback" not in printed


def test_a_fault_of_the_system_is_a_line_and_no_traceback(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_config: Path) -> None:
        raise OSError(28, "No space left on device", str(tmp_path / "voicemeet.toml"))

    monkeypatch.setattr("voicemeet_edge.settings.Settings.load", full)
    path = tmp_path / "voicemeet.toml"
    path.write_text(backend())
    assert main(["check", "--config", str(path)]) == 1
    assert capsys.readouterr().err == f"voicemeet-edge: {path}: No space left on device\n"


def test_a_mistake_of_the_program_is_no_traceback_at_a_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("voicemeet_edge.settings.Settings.load", lambda _config: 1 / 0)
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    path = tmp_path / "voicemeet.toml"
    path.write_text(backend())
    assert main(["check", "--config", str(path)]) == 1
    printed = capsys.readouterr().err
    assert "a mistake of this program (ZeroDivisionError)" in printed
    assert "Traceback" not in printed


# -- the way to the hub ----------------------------------------------------------------------


@contextlib.contextmanager
def port_without_a_hub() -> Iterator[int]:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))  # and does not listen
        yield one.getsockname()[1]


async def last_of(settings: str) -> Finding:
    """Try the way to the hub; returns where it ended."""
    findings = [finding async for finding in try_connection(Settings.parse(settings))]
    return next((one for one in findings if one.outcome is Outcome.FAULT), findings[-1])


def assert_is(finding: Finding, reason: NotConnected) -> None:
    assert finding.outcome is Outcome.FAULT
    assert reason.said in finding.found
    assert finding.advice == reason.cure


async def test_the_command_says_it_in_rows(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "voicemeet.toml"
    with port_without_a_hub() as port:
        path.write_text(backend(url=f"http://127.0.0.1:{port}"))
        assert await asyncio.to_thread(main, ["check", "--connect", "--config", str(path)]) == 1
    rows = capsys.readouterr().out.splitlines()
    assert rows[0] == f"{path}: all right"
    assert rows[1].startswith("✓ name")
    assert rows[2].startswith("✗ port")
    assert rows[3].strip() == f"→ {NotConnected.NOBODY_LISTENS.cure}"
    assert rows[-1].startswith("1 fault")


async def test_a_name_nobody_knows() -> None:
    assert_is(await last_of(backend(url="https://no-such-name.invalid:8443")), NotConnected.NAME_UNKNOWN)


async def test_nobody_listens() -> None:
    with port_without_a_hub() as port:
        finding = await last_of(backend(url=f"http://127.0.0.1:{port}"))
    assert_is(finding, NotConnected.NOBODY_LISTENS)


async def test_another_certificate_than_the_pinned_one(tmp_path: Path) -> None:
    settings = loopback(tmp_path / "hub", tls="self-signed")
    async with run(settings) as hub:
        finding = await last_of(backend(PIN, hub.info.url))
    assert_is(finding, NotConnected.PIN_MISMATCH)


async def test_a_refused_apikey(tmp_path: Path) -> None:
    async with run(loopback(tmp_path / "hub")) as hub:
        finding = await last_of(backend(url=hub.info.url))
    assert finding.check == "hub"
    assert_is(finding, NotConnected.BAD_APIKEY)


@pytest.mark.parametrize(
    ("match", "more", "pool", "reason"),
    [
        (MatchSettings(pools=("lobby",)), "", "loby", NotConnected.UNKNOWN_POOL),
        (MatchSettings(pools=("lobby",)), "", "lobby", NotConnected.PASS_NEEDED),
        (
            MatchSettings(pools=("lobby",)),
            'pass = "AAAA-AAAA-AAAA-AAAA-AAAA-AAAA-AA"\n',
            "lobby",
            NotConnected.PASS_REFUSED,
        ),
        (MatchSettings(), "", "public", NotConnected.NO_RELAY),
    ],
    ids=lambda value: value.value if isinstance(value, NotConnected) else "",
)
async def test_what_the_hub_refuses(
    tmp_path: Path, match: MatchSettings, more: str, pool: str, reason: NotConnected
) -> None:
    async with run(loopback(tmp_path / "hub", match=match)) as hub:
        key = hub.info.apikey.reveal()
        text = f'[backend]\nurl = "{hub.info.url}"\napikey = "{key}"\n{more}[call]\npool = "{pool}"\n'
        finding = await last_of(text + f'role = "{Role.CALLER.value}"\n')
    assert reason.said in finding.found
    assert finding.advice == reason.cure


# -- the hub ---------------------------------------------------------------------------------


def test_a_port_that_is_taken() -> None:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        one.listen()
        with pytest.raises(HubError, match="does a hub run already"):
            take_port(HttpSettings(port=one.getsockname()[1]))


def test_a_hub_without_a_relay_says_which_pool_needs_one(tmp_path: Path) -> None:
    said = no_relay_warning(HubSettings(tmp_path))
    assert said is not None
    assert "pool public" in said
    assert 'provider = "coturn"' in said
    assert no_relay_warning(HubSettings(tmp_path, match=MatchSettings(pools=("lobby",)))) is None
    assert no_relay_warning(HubSettings(tmp_path, turn=TurnSettings(provider="coturn"))) is None


async def test_it_is_said_at_the_start(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with run(loopback(tmp_path / "hub")):
        assert "no relay: [turn] provider is off" in caplog.text


def test_a_certificate_with_another_ones_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    certificate, other = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(make_self_signed(["hub.example"]))
    other.write_bytes(make_self_signed(["hub.example"]))
    config = tmp_path / "hub.toml"
    files = f'tls = "files"\ncertificate = "{certificate}"\nprivate_key = "{other}"\n'
    config.write_text(f'state_dir = "{tmp_path / "hub"}"\n[http]\nport = 0\n{files}')
    assert main(["hub", "--config", str(config)]) == 78
    assert "http.private_key is of another certificate" in capsys.readouterr().err
