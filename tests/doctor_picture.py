"""What `voicemeet-edge doctor` prints, as a picture: `python -m tests.doctor_picture OUT`.

The table is that of the real command beside a real hub with its relay; only the panel's lines and the card
are in memory, and the microphone does not hear the loudspeaker.
"""

from __future__ import annotations

import asyncio
import html
import os
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from voicemeet_edge.demo.lab import LabCall, device_settings, hub_settings
from voicemeet_edge.demo.remote import to_toml
from voicemeet_edge.hub.app import running_hub
from voicemeet_edge.testing.browser import Browser

PAGE = """<!doctype html><meta charset="utf-8"><style>
body {{ margin: 0; background: #14171a; color: #e4e6e8; font: 14px/1.5 "DejaVu Sans Mono", monospace }}
pre {{ margin: 0; padding: 20px 24px; white-space: pre-wrap; }}
.well {{ color: #7bd88f }} .fault {{ color: #ff7a6b }} .doubt {{ color: #ffd166 }}
.skipped {{ color: #98a2ad }}
</style><pre>{text}</pre>"""
COLOURS = {"✓": "well", "✗": "fault", "!": "doubt", "–": "skipped"}


async def examined(folder: Path) -> str:
    """Return what the command prints."""
    async with running_hub(hub_settings(folder)) as info:
        table = device_settings(info, LabCall(), {})
        table["panel"] = {"factory": "mock"}
        file = folder / "voicemeet.toml"
        file.touch(mode=0o600)
        file.write_text(to_toml(table))
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "voicemeet_edge", "doctor", "--config", str(file),
            stdout=asyncio.subprocess.PIPE, env={**os.environ, "PYTHONUTF8": "1"},
        )  # fmt: skip
        output, _ = await process.communicate()
    return output.decode().replace(str(file), "/boot/firmware/voicemeet.toml")


def page(text: str) -> str:
    """The terminal's text as a page, each mark in its colour."""
    lines = ["<b>$ sudo voicemeet-edge doctor</b>"]
    for line in text.splitlines():
        mark = COLOURS.get(line[:1])
        safe = html.escape(line)
        lines.append(f'<span class="{mark}">{safe[0]}</span>{safe[1:]}' if mark else safe)
    return PAGE.format(text="\n".join(lines))


async def main(out: Path) -> None:
    """Ask the doctor, and look at what it says."""
    with TemporaryDirectory() as name:
        folder = Path(name)
        text = await examined(folder)
        print(text)
        file = folder / "doctor.html"
        file.write_text(page(text))
        async with Browser(file.as_uri(), size=(1080, 450)) as browser:
            await browser.wait_for("document.readyState === 'complete'")
            await browser.screenshot(out)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1])))
