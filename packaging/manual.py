"""Write the man page and the bash completion from the command line's own parser, so that they cannot differ.

python packaging/manual.py man|bash
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from datetime import UTC, datetime

from voicemeet_edge import __version__
from voicemeet_edge.cli import build_parser

FILES = """\
.SH FILES
.TP
.I /boot/firmware/voicemeet.toml
The settings of a device. There is a commented template in
.IR /usr/share/doc/voicemeet-edge/examples .
.TP
.I /etc/voicemeet/hub.toml
The settings of a hub.
.TP
.I /var/lib/voicemeet-hub
Keys, certificate and database of a hub.
.SH EXIT STATUS
0 done; 1 it did not work, one line says why; 2 wrong words on the command line; 78 a wrong setting.
"""


def _verbs(parser: argparse.ArgumentParser) -> dict[str, tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (helps.get(name, ""), sub) for name, sub in action.choices.items()}
    return {}


def _escape(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^([.'])", r"\\&\1", text, flags=re.M)


def _options(parser: argparse.ArgumentParser) -> list[str]:
    lines = []
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction | argparse._HelpAction):
            continue
        name = ", ".join(action.option_strings) or str(action.metavar or action.dest)
        if action.option_strings and action.nargs != 0:
            name += f" {action.metavar or action.dest.upper()}"
        text = (
            (action.help or "") % vars(action) if action.help and "%(" in action.help else action.help or ""
        )
        lines += [".TP", f".B {_escape(name)}", _escape(text) or "\\ "]
    return lines


def man() -> str:
    """The page in roff."""
    parser = build_parser()
    when = datetime.fromtimestamp(int(os.environ.get("SOURCE_DATE_EPOCH", "0")), UTC)
    lines = [
        f'.TH VOICEMEET\\-EDGE 1 {when:%Y-%m-%d} "VoiceMeet Edge {__version__}" "User Commands"',
        ".SH NAME",
        "voicemeet\\-edge \\- a hardware voice\\-call device, its hub and its tools",
        ".SH SYNOPSIS",
        ".B voicemeet\\-edge",
        ".I COMMAND",
        "[options]",
        ".SH DESCRIPTION",
        _escape(parser.description or ""),
        ".SH COMMANDS",
    ]
    for name, (brief, verb) in _verbs(parser).items():
        lines += [f".SS {_escape(name)}", _escape(verb.description or brief)]
        lines += _options(verb)
    return "\n".join(lines) + "\n" + FILES


def bash() -> str:
    """The completion for bash."""
    verbs = _verbs(build_parser())
    cases = []
    for name, (_, verb) in verbs.items():
        words = [word for action in verb._actions for word in action.option_strings]
        cases.append(f"        {name}) words='{' '.join(words)}' ;;")
    return f"""\
# bash completion for voicemeet-edge; made from its own --help.
_voicemeet_edge() {{
    local words current=${{COMP_WORDS[COMP_CWORD]}}
    case $COMP_CWORD in
        1) COMPREPLY=($(compgen -W '{" ".join(verbs)} --help --version' -- "$current")); return ;;
    esac
    case ${{COMP_WORDS[1]}} in
{chr(10).join(cases)}
        *) words= ;;
    esac
    case $current in
        -*) COMPREPLY=($(compgen -W "$words" -- "$current")) ;;
        *) COMPREPLY=($(compgen -f -- "$current")) ;;
    esac
}}
complete -o filenames -F _voicemeet_edge voicemeet-edge
"""


if __name__ == "__main__":
    sys.stdout.write({"man": man, "bash": bash}[sys.argv[1]]())
