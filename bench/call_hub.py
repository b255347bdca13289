"""A hub in a process of its own for the bench: `python -m bench.call_hub DIRECTORY ADDRESS`.

One rule: one JSON line says where it is, and it ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import replace
from pathlib import Path

from voicemeet_edge.demo.lab import hub_settings
from voicemeet_edge.hub.app import running_hub


async def serve(directory: Path, address: str) -> None:
    """Serve plain HTTP on this address of a closed test network."""
    settings = hub_settings(directory, turn="off")
    http = replace(settings.http, listen=(address,), allow_plaintext=True)
    async with running_hub(replace(settings, http=http)) as info:
        url = f"http://{address}:{info.port}"
        line = {"event": "hub", "url": url, "apikey": info.apikey.reveal(), "pin": info.pin}
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(Path(sys.argv[1]), sys.argv[2]))
