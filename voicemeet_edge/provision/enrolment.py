"""What an end needs to take part: as settings for a door, as one line to paste, as a link for a desk.

Pure; the one rule: every form holds the same facts; what was cut or mistyped is refused with a sentence.
"""

from __future__ import annotations

from dataclasses import field, replace
from typing import Final
from urllib.parse import parse_qsl, quote, urlencode

from voicemeet_edge.backend.admission import as_typed, parse_pass
from voicemeet_edge.backend.verbs import Role
from voicemeet_edge.errors import LocalError, SettingsError
from voicemeet_edge.provision.toml_text import dump
from voicemeet_edge.records import dataclass
from voicemeet_edge.secret import Secret
from voicemeet_edge.settings import Settings

LINE_PREFIX: Final = "voicemeet-settings:1:"  # so that a reader tells settings from any other text
MAX_LINE: Final = 2_048  # characters of a line; one has about 500


class EnrolmentError(LocalError):
    """A text is no settings line; the sentence says what is wrong with it, never the text."""

    code = "bad_enrolment"


@dataclass(frozen=True, slots=True)
class Enrolment:
    """One door's or desk's place in a building."""

    url: str
    apikey: Secret
    pin: str = ""
    pool: str = "frontdesk"
    role: Role = Role.CALLER
    name: str = ""
    pass_: Secret = field(default=Secret(""))
    keys: tuple[Secret, ...] = ()

    def table(self) -> dict[str, dict[str, object]]:
        """Return it as the sections of voicemeet.toml."""
        backend: dict[str, object] = {"url": self.url, "apikey": self.apikey.reveal()}
        if self.pin:
            backend["tls_pin"] = self.pin
        if self.pass_:
            backend["pass"] = as_typed(self.pass_)
        found: dict[str, dict[str, object]] = {
            "backend": backend,
            "call": {"pool": self.pool, "role": self.role.value},
        }
        if self.name:
            found["call"]["name"] = self.name
        if self.keys:
            found["security"] = {"intercom_keys": [key.reveal() for key in self.keys]}
        return found

    def settings(self) -> Secret:
        """Return a whole voicemeet.toml: what is not in it has its default."""
        title = f"# VoiceMeet Edge: {self.name or self.role.value}. Keep it to yourself: it holds its pass.\n"
        return Secret(title + dump(self.table()))

    def line(self) -> Secret:
        """Return one line that `voicemeet-edge setup` takes."""
        values = {"url": self.url, "apikey": self.apikey.reveal(), "pin": self.pin, "pool": self.pool}
        values |= {"role": self.role.value, "name": self.name}
        if self.pass_:
            values["pass"] = parse_pass(self.pass_).reveal()
        pairs = [(name, value) for name, value in values.items() if value]
        pairs += [("key", key.reveal()) for key in self.keys]
        return Secret(LINE_PREFIX + urlencode(pairs, quote_via=quote, safe="/:"))

    def desk_link(self) -> Secret:
        """Return the link that opens the desk page with all this; browsers do not send what follows the #."""
        pairs = [("pass", parse_pass(self.pass_).reveal()), ("pool", self.pool)]
        pairs += [("key", key.reveal()) for key in self.keys]
        return Secret(f"{self.url.rstrip('/')}/desk/#{urlencode(pairs)}")


def parse_line(text: Secret) -> Enrolment:
    """Read a settings line as it was pasted; line breaks that a terminal put into it do not matter.

    Raises:
        EnrolmentError: it is none, or a part of it is missing or cannot be.
    """
    line = "".join(text.reveal().split())
    if line.count(LINE_PREFIX) > 1:
        raise EnrolmentError("the settings line was pasted twice: paste it once")
    if not line.startswith(LINE_PREFIX):
        raise EnrolmentError(f"a settings line begins with {LINE_PREFIX}: copy all of it from the hub's page")
    if len(line) > MAX_LINE:
        raise EnrolmentError(f"a settings line has at most {MAX_LINE} characters")
    try:
        pairs = parse_qsl(line.removeprefix(LINE_PREFIX), strict_parsing=True, max_num_fields=16)
    except ValueError:
        raise EnrolmentError("the settings line was cut: copy all of it from the hub's page") from None
    values = dict(pairs)
    missing = [name for name in ("url", "apikey", "pool", "role") if not values.get(name)]
    if missing:
        raise EnrolmentError(f"the settings line was cut: there is no {' and no '.join(missing)} in it")
    try:
        role = Role(values["role"])
    except ValueError:
        raise EnrolmentError("the settings line gives a role that there is not") from None
    found = Enrolment(
        values["url"],
        Secret(values["apikey"]),
        values.get("pin", ""),
        values["pool"],
        role,
        values.get("name", ""),
        Secret(values.get("pass", "")),
        tuple(Secret(value) for name, value in pairs if name == "key"),
    )
    return _checked(found)


def _checked(found: Enrolment) -> Enrolment:
    """Let the settings' own checks look at every value; returns it in its one form."""
    try:
        shown = found if not found.pass_ else replace(found, pass_=parse_pass(found.pass_))
        Settings.from_dict(shown.table(), file="settings line")
    except SettingsError as error:
        wrong = f"{error.key}: expected {error.expected}"
        raise EnrolmentError(f"the settings line was mistyped or cut: {wrong}") from None
    except LocalError as error:
        raise EnrolmentError(f"the settings line was mistyped or cut: {error}") from None
    return shown
