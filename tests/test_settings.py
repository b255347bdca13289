"""Settings: defaults, checks, one-line errors, and no secret in any of them."""

from __future__ import annotations

import tomllib
from dataclasses import FrozenInstanceError, fields
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from voicemeet_edge.backend.verbs import POOL_PATTERN
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings, edited, render_template
from voicemeet_edge.settings_file import MAX_FILE_BYTES

TEMPLATE = Path(__file__).parent.parent / "firmware" / "voicemeet.toml"
KEY = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"  # bytes 0 to 31
OTHER_KEY = "Hx4dHBsaGRgXFhUUExIREA8ODQwLCgkIBwYFBAMCAQA"


def refusal(text: str) -> SettingsError:
    """Parse what must be refused and return the error, which is always one line naming the file."""
    with pytest.raises(SettingsError) as caught:
        Settings.parse(text, file="device.toml")
    sentence = str(caught.value)
    assert sentence.startswith("device.toml: ")
    assert "\n" not in sentence
    assert len(sentence) < 400
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


class TestTemplate:
    def test_it_is_what_the_code_renders(self) -> None:
        assert TEMPLATE.read_text() == render_template()

    def test_it_names_every_key(self) -> None:
        table = tomllib.loads(TEMPLATE.read_text())
        named = {section: set(values) for section, values in table.items()}
        assert named == {
            section.name: {one.name.rstrip("_") for one in fields(getattr(Settings(), section.name))}
            for section in fields(Settings)
        }

    def test_its_defaults_are_those_of_the_code(self) -> None:
        assert Settings.parse(TEMPLATE.read_text()) == Settings()

    def test_every_key_has_a_sentence(self) -> None:
        for section in fields(Settings):
            for one in fields(getattr(Settings(), section.name)):
                assert one.metadata["doc"].endswith("."), one.name

    def test_every_default_passes_its_own_check(self) -> None:
        for section in fields(Settings):
            for one in fields(getattr(Settings(), section.name)):
                assert one.metadata["check"](one.default) == one.default, one.name


class TestValues:
    def test_an_empty_file_gives_the_defaults(self) -> None:
        assert Settings.parse("") == Settings()

    def test_from_dict_takes_nested_mappings(self) -> None:
        settings = Settings.from_dict({"call": {"pool": "frontdesk", "role": "caller"}})
        assert (settings.call.pool, settings.call.role) == ("frontdesk", "caller")

    def test_settings_are_frozen(self) -> None:
        with pytest.raises(FrozenInstanceError):
            Settings().call.pool = "x"  # type: ignore[misc]

    @given(st.text(alphabet="az09-_A", max_size=40))
    def test_a_pool_is_what_the_wire_contract_takes(self, pool: str) -> None:
        try:
            accepted = Settings.from_dict({"call": {"pool": pool}}).call.pool == pool
        except SettingsError:
            accepted = False
        assert accepted == bool(POOL_PATTERN.match(pool))

    @pytest.mark.parametrize(
        ("pool", "policy", "in_force"),
        [
            ("public", "auto", "relay"),
            ("frontdesk", "auto", "direct"),
            ("public", "mdns", "mdns"),
            ("public", "direct", "direct"),
            ("frontdesk", "relay", "relay"),
        ],
    )
    def test_the_policy_for_the_pool(self, pool: str, policy: str, in_force: str) -> None:
        settings = Settings.from_dict({"call": {"pool": pool}, "ice": {"policy": policy}})
        assert settings.ice_policy_for_pool == in_force

    @pytest.mark.parametrize(
        "url",
        ["https://hub.example", "https://hub.example:8443/base", "http://127.0.0.1:1", "http://[::1]:8080",
         "http://localhost"],
    )  # fmt: skip
    def test_good_urls(self, url: str) -> None:
        assert Settings.from_dict({"backend": {"url": url + "/"}}).backend.url == url

    def test_plain_http_to_another_host_needs_permission(self) -> None:
        table = {"backend": {"url": "http://10.1.2.3", "allow_plaintext": True}}
        assert Settings.from_dict(table).backend.url == "http://10.1.2.3"
        assert refusal('[backend]\nurl = "http://10.1.2.3"').key == "backend.url"
        assert refusal('[backend]\nurl = "HTTP://10.1.2.3"').key == "backend.url"

    def test_whole_numbers_do_for_seconds(self) -> None:
        assert Settings.from_dict({"call": {"ring_timeout_s": 20}}).call.ring_timeout_s == 20.0

    def test_keys_lose_their_padding(self) -> None:
        settings = Settings.from_dict({"security": {"intercom_keys": [KEY + "=", OTHER_KEY]}})
        assert settings.security.intercom_keys == (Secret(KEY), Secret(OTHER_KEY))

    def test_addresses_get_one_spelling(self) -> None:
        settings = Settings.from_dict({"ice": {"addresses": ["127.0.0.1", "FE80:0::1"]}})
        assert settings.ice.addresses == ("127.0.0.1", "fe80::1")

    def test_a_pin_is_put_in_small_letters(self) -> None:
        assert Settings.from_dict({"backend": {"tls_pin": "AB" * 32}}).backend.tls_pin == "ab" * 32


class TestRefusals:
    @pytest.mark.parametrize(
        ("text", "key"),
        [
            ("[call]\nrole = 'host'", "call.role"),
            ("[call]\nrole = 1", "call.role"),
            ("[call]\npool = 'Front Desk'", "call.pool"),
            ("[call]\npool = ''", "call.pool"),
            ("[call]\npool = 'desk-'", "call.pool"),
            ("[call]\nring_timeout_s = nan", "call.ring_timeout_s"),
            ("[call]\nring_timeout_s = inf", "call.ring_timeout_s"),
            ("[call]\nring_timeout_s = true", "call.ring_timeout_s"),
            ("[call]\nmax_call_s = 60\nwarn_before_end_s = 60", "call.warn_before_end_s"),
            ("[backend]\nurl = 'hub.example'", "backend.url"),
            ("[backend]\nurl = 'ftp://hub.example'", "backend.url"),
            ("[backend]\nurl = 'https://hub.example:99999'", "backend.url"),
            ("[backend]\nurl = 'https://hub.example/?q=1'", "backend.url"),
            ("[backend]\nurl = 'https://[::1'", "backend.url"),
            ("[backend]\ntls_pin = 'abcd'", "backend.tls_pin"),
            ("[backend]\nurl = 'http://localhost'\ntls_pin = '" + "a" * 64 + "'", "backend.tls_pin"),
            ("[ice]\naddresses = ['fritz.box']", "ice.addresses"),
            ("[ice]\ninterfaces = ['eth0', 'eth0']", "ice.interfaces"),
            ("[ice]\ninterfaces = ['../x']", "ice.interfaces"),
            ("[ice]\nturn_order = []", "ice.turn_order"),
            ("[ice]\nturn_order = ['udp', 'quic']", "ice.turn_order"),
            ("[audio]\ncapture = 'plughw:1,0'", "audio.capture"),
            ("[audio]\ncapture = 'hw:CARD=0'", "audio.capture"),
            ("[audio]\nvolume = 101", "audio.volume"),
            ("[audio]\nvolume = 50.0", "audio.volume"),
            ("[audio]\nvolume = true", "audio.volume"),
            ("[audio]\nhalf_duplex = 'false'", "audio.half_duplex"),
            ("[panel]\nfactory = 'rpigpio'", "panel.factory"),
            ("[panel]\ncall_line = 17", "panel.call_line"),
            ("[panel]\ncall_line = 'GPIO27'", "panel.lamp_line"),
            ("[panel]\ncall_line = 'PIN13'", "panel.lamp_line"),
            ("[panel]\ncall_line = 'GPIO0'\nlamp_line = 'BOARD27'", "panel.lamp_line"),
            ("[panel]\ncall_line = 'SDA1'\nlamp_line = 'GPIO2'", "panel.lamp_line"),
            ("[panel]\ncall_line = 'PIN6'", "panel.call_line"),
            ("[panel]\nlamp_line = 'PIN41'", "panel.lamp_line"),
            ("[panel]\nlamps = 'three'", "panel.lamps"),
            ("[panel]\nlamps = 'two'\ngreen_line = 'GPIO22'", "panel.lamp_line"),
            ("[panel]\nrelay_line = 'PIN11'", "panel.lamp_line"),
            ("[panel]\ntamper_line = 'PIN11'", "panel.lamp_line"),
            ("[panel]\nkeypad = ['GPIO17 office']", "panel.lamp_line"),
            ("[panel]\nkeypad = ['GPIO5']", "panel.keypad"),
            ("[panel]\nkeypad = ['GPIO5 Office']", "panel.keypad"),
            ("[panel]\nkeypad = ['GPIO5 office nopass']", "panel.keypad"),
            ("[call]\nrole = 'answerer'\n[panel]\nkeypad = ['GPIO5 office']", "panel.keypad"),
            ("[panel]\nrelay_line = 'GPIO5'\nfactory = 'lgpio'", "panel.relay_line"),
            ("[panel]\nlamps = 'rgb'\nblue_line = 'PIN16'", "panel.lamp_line"),
            ("[log]\nlevel = 'INFO'", "log.level"),
            ("call = 3", "call"),
            ("[call]\nrole = 'caller'\nrole = 'caller'", "(syntax)"),
            ("[call", "(syntax)"),
            ("x = " + "[" * 5000, "(syntax)"),
            ("x = " + "9" * 5000, "(syntax)"),
            ("[audio]\nvolume = 0x" + "f" * 5000, "audio.volume"),
        ],
    )
    def test_wrong_values(self, text: str, key: str) -> None:
        assert refusal(text).key == key

    def test_an_unknown_section_names_the_nearest(self) -> None:
        assert 'did you mean "panel"?' in str(refusal("[pannel]\nx = 1"))

    def test_an_unknown_key_names_the_nearest(self) -> None:
        assert 'did you mean "debounce_ms"?' in str(refusal("[panel]\ndebounce = 1"))

    def test_a_long_value_is_cut(self) -> None:
        assert "…" in refusal("[call]\npool = '" + "x" * 1000 + "'").value

    def test_a_value_of_two_lines_is_shown_on_one(self) -> None:
        assert r"\n" in refusal('[call]\npool = "a\\nb"').value


class TestSecrets:
    @pytest.mark.parametrize(
        "text",
        [
            "[backend]\napikey = 'hunter2 hunter2'",
            "[backend]\napikey = ['hunter2']",
            "[backend]\napi_key = 'hunter2'",
            "[backend.apikey]\nhunter2 = 1",
            "[security]\nintercom_keys = 'hunter2'",
            "[security]\nintercom_keys = ['hunter2']",
            "[secrets]\nkey = 'hunter2'",
            "[backend]\nurl = 'https://user:hunter2@hub.example'",
            "[backend]\napikey = 'hunter2",
            f"[security]\nintercom_keys = ['{KEY}']\nintercom_key_file = 'hunter2'",
        ],
    )
    def test_none_is_shown(self, text: str) -> None:
        assert "hunter2" not in str(refusal(text))

    def test_they_print_as_dots(self) -> None:
        settings = Settings.from_dict(
            {"backend": {"apikey": "hunter2"}, "security": {"intercom_keys": [KEY]}},
        )
        assert "hunter2" not in repr(settings)
        assert KEY not in repr(settings)

    @pytest.mark.parametrize(
        "key", ["", "A" * 42, "A" * 44, KEY[:-1] + "9", KEY.replace("A", "+"), KEY + "==", KEY + "\n"]
    )
    def test_wrong_intercom_keys(self, key: str) -> None:
        with pytest.raises(SettingsError, match="base64url of 32 bytes"):
            Settings.from_dict({"security": {"intercom_keys": [key]}})

    def test_the_same_key_twice_and_three_keys(self) -> None:
        for keys in ([KEY, KEY + "="], [KEY, OTHER_KEY, "A" * 43]):
            with pytest.raises(SettingsError):
                Settings.from_dict({"security": {"intercom_keys": keys}})


class TestLoad:
    def write(self, folder: Path, text: str) -> Path:
        path = folder / "voicemeet.toml"
        path.write_text('[backend]\napikey = "abc"\n' + text)
        return path

    def test_a_good_file(self, tmp_path: Path) -> None:
        assert Settings.load(self.write(tmp_path, "")).backend.apikey == Secret("abc")

    def test_a_byte_order_mark_is_no_obstacle(self, tmp_path: Path) -> None:
        path = tmp_path / "voicemeet.toml"
        path.write_bytes(b'\xef\xbb\xbf[backend]\r\napikey = "abc"\r\n')
        assert Settings.load(path).backend.apikey

    def test_the_template_as_it_is_cannot_run(self) -> None:
        with pytest.raises(SettingsError, match=r"backend\.apikey"):
            Settings.load(TEMPLATE)

    def test_missing_file_folder_and_not_text(self, tmp_path: Path) -> None:
        (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
        (tmp_path / "huge").write_bytes(b"#" * (MAX_FILE_BYTES + 1))
        for name in ("absent", ".", "binary", "huge"):
            with pytest.raises(SettingsError) as caught:
                Settings.load(tmp_path / name)
            assert caught.value.key == "(file)"

    def test_keys_from_a_file_beside_it(self, tmp_path: Path) -> None:
        (tmp_path / "keys").write_text(f"{KEY}\n{OTHER_KEY}\n")
        path = self.write(tmp_path, '[security]\nintercom_key_file = "keys"')
        assert Settings.load(path).security.intercom_keys == (Secret(KEY), Secret(OTHER_KEY))

    def test_keys_from_the_credentials_of_systemd(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "credentials").mkdir()
        (tmp_path / "credentials" / "intercom_key").write_text(KEY)
        monkeypatch.setenv("CREDENTIALS_DIRECTORY", str(tmp_path / "credentials"))
        path = self.write(tmp_path, '[security]\nintercom_key_file = "intercom_key"')
        assert Settings.load(path).security.intercom_keys == (Secret(KEY),)

    @pytest.mark.parametrize("content", ["", "hunter2", f"{KEY} {OTHER_KEY} {KEY}"])
    def test_a_key_file_without_keys_is_refused_and_not_shown(self, tmp_path: Path, content: str) -> None:
        (tmp_path / "keys").write_text(content)
        path = self.write(tmp_path, '[security]\nintercom_key_file = "keys"')
        with pytest.raises(SettingsError, match="intercom_key_file") as caught:
            Settings.load(path)
        assert "hunter2" not in str(caught.value)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)
known_keys = {
    section.name: [one.name for one in fields(getattr(Settings(), section.name))]
    for section in fields(Settings)
}


@st.composite
def tables(draw: st.DrawFn) -> dict[str, dict[str, object]]:
    section = draw(st.sampled_from(sorted(known_keys)))
    keys = st.sampled_from(known_keys[section]) | st.text(max_size=5)
    return {section: draw(st.dictionaries(keys, json_like, max_size=3))}


@given(tables())
def test_any_values_give_settings_or_the_documented_error(table: dict[str, dict[str, object]]) -> None:
    try:
        Settings.from_dict(table)
    except SettingsError as error:
        sentence = str(error)
    else:
        return
    assert len(sentence.splitlines()) == 1


@given(st.text())
def test_any_text_gives_settings_or_the_documented_error(text: str) -> None:
    try:
        Settings.parse(text)
    except SettingsError as error:
        sentence = str(error)
    else:
        return
    assert len(sentence.splitlines()) == 1


@pytest.mark.parametrize(
    "text", ["[{key}]", "[security]\n{key} = 1", '[call]\npool = "{key}"', '{key} = "x"']
)
def test_a_key_in_the_wrong_place_is_not_shown(text: str) -> None:
    key = "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2U"
    with pytest.raises(SettingsError) as wrong:
        Settings.parse(text.format(key=key))
    assert key[:20] not in str(wrong.value)


@pytest.mark.parametrize(
    ("read", "named"),
    [
        ("/run/credentials/voicemeet-edge.service/voicemeet.toml", "/boot/firmware/voicemeet.toml"),
        ("/run/voicemeet/voicemeet.toml", "/boot/firmware/voicemeet.toml"),
        ("/home/somebody/voicemeet.toml", "/home/somebody/voicemeet.toml"),
        ("/run/mine.toml", "/run/mine.toml"),
    ],
)
def test_errors_name_the_file_a_person_edits(read: str, named: str) -> None:
    assert edited(Path(read)) == named
