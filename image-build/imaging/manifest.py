"""What the Raspberry Pi Imager reads: a list of images with their sizes and hashes."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

# Boards by the Imager's tags. The Pi 5 is not among them: the image has its drivers, and nobody has tried it.
DEVICES = ("pi3-64bit", "pi4-64bit")
_NEEDED = {
    "name": str,
    "description": str,
    "icon": str,
    "url": str,
    "extract_size": int,
    "extract_sha256": str,
    "image_download_size": int,
    "image_download_sha256": str,
    "bmap_url": str,
    "release_date": str,
    "devices": list,
    "init_format": str,
    "architecture": str,
}
_FORMATS = ("none", "systemd", "cloudinit", "cloudinit-rpi", "rpi-preseed")
# 40 × 40 points, a loudspeaker in a circle; inline, so that nothing is fetched for it.
ICON = (
    "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 40 40'%3E"
    "%3Ccircle cx='20' cy='20' r='19' fill='%23174a6e'/%3E"
    "%3Cpath d='M11 16h5l7-6v20l-7-6h-5z' fill='%23fff'/%3E%3C/svg%3E"
)


def entry(
    *,
    role: str,
    version: str,
    url: str,
    size: int,
    sha256: str,
    packed_size: int,
    packed_sha256: str,
    epoch: int,
) -> dict[str, Any]:
    """One image of the list; sizes in bytes."""
    what = {
        "device": "a call device: buttons, lamp, microphone, loudspeaker",
        "hub": "the hub of a building",
    }[role]
    return {
        "name": f"VoiceMeet Edge {role} {version}",
        "description": f"{what[0].upper()}{what[1:]} (64 bit; Pi 3, Zero 2 W, Pi 4)",
        "icon": ICON,
        "url": url,
        "extract_size": size,
        "extract_sha256": sha256,
        "image_download_size": packed_size,
        "image_download_sha256": packed_sha256,
        "bmap_url": url.removesuffix(".xz") + ".bmap",
        "release_date": f"{datetime.fromtimestamp(epoch, UTC):%Y-%m-%d}",
        "devices": list(DEVICES),
        "init_format": "rpi-preseed",
        "architecture": "armv8",
    }


def problems(manifest: dict[str, Any]) -> list[str]:
    """Say what the Imager would not take, by its published schema and the rules of its documentation."""
    found = []
    images = manifest.get("os_list")
    if not isinstance(images, list) or not images:
        return ["os_list: expected a list of images"]
    for number, image in enumerate(images):
        for key, kind in _NEEDED.items():
            if not isinstance(image.get(key), kind):
                found.append(f"os_list[{number}].{key}: expected {kind.__name__}")
        for key in ("extract_sha256", "image_download_sha256"):
            if not re.fullmatch("[0-9a-f]{64}", str(image.get(key))):
                found.append(f"os_list[{number}].{key}: expected 64 hex digits")
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(image.get("release_date"))):
            found.append(f"os_list[{number}].release_date: expected YYYY-MM-DD")
        if image.get("init_format") not in _FORMATS:
            found.append(f"os_list[{number}].init_format: expected one of {', '.join(_FORMATS)}")
        if not str(image.get("url")).endswith((".xz", ".gz", ".zip")):
            found.append(f"os_list[{number}].url: expected an image packed by xz, gzip or zip")
        if urlsplit(str(image.get("url"))).scheme not in ("https", "http", "file"):
            found.append(f"os_list[{number}].url: expected an address")
        found += [f"os_list[{number}].{key}: not known" for key in sorted(image.keys() - _NEEDED.keys())]
    return found
