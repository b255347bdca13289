"""Pictures of every state of the desk page, to be looked at: `python -m tests.desk.gallery OUT [LANGUAGE…]`.

For each language: light, dark, a small phone and 200 per cent on a laptop. A picture is as high as the
window, because that is what a person sees.
"""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from tests.desk.conftest import Desks
from tests.desk.states import DIALOGS, STATES, close_dialogs, open_dialog, show, speak
from voicemeet_edge.testing.browser import Browser

SIZES: dict[str, dict[str, Any]] = {
    "light": {"size": (800, 900)},
    "dark": {"size": (800, 900), "dark": True},
    "phone": {"size": (360, 640)},
    "double": {"size": (1280, 800), "scale": 2.0},
}


async def picture_all(page: Browser, out: Path) -> None:
    """Take a picture of each state and each dialog."""
    for name, model in STATES.items():
        await show(page, model)
        await page.evaluate("(scrollTo(0, 0), true)")
        await page.screenshot(out / f"{name}.png")
    for name in DIALOGS:
        await show(page, STATES["talking"])
        await open_dialog(page, name)
        await page.screenshot(out / f"dialog-{name}.png")
        await close_dialogs(page)


async def main(out: Path, languages: list[str]) -> None:
    with TemporaryDirectory() as folder:
        async with AsyncExitStack() as stack:
            desks = Desks(Path(folder) / "hub", stack)
            stack.push_async_callback(desks.stop_hub)
            await desks.start_hub()
            for kind, options in SIZES.items():
                page = await desks.page(**options)
                for language in languages:
                    await speak(page, language)
                    place = out / language / kind
                    await asyncio.to_thread(place.mkdir, parents=True, exist_ok=True)
                    await picture_all(page, place)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]), sys.argv[2:] or ["en"]))
