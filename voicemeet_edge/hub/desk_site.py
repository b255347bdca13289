"""The desk page as static files for any web server, with an origin of its own.

One rule: who serves the page is who is trusted with the microphone and the intercom key; so it can be
somebody else than the backend, and the files say in their own policy which backend they speak to.
"""

from __future__ import annotations

import json
from pathlib import Path
from urllib.parse import urlsplit

from voicemeet_edge.backend.verbs import REALTIME_PATH, VERB_PATH
from voicemeet_edge.errors import SettingsError
from voicemeet_edge.hub.answers import PAGE_POLICY
from voicemeet_edge.hub.server import read_page

HEADERS_FILE = "_headers"  # as Cloudflare Pages and Netlify read it; other servers: docs/hosted.md
HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "microphone=(self), camera=(self), geolocation=(), payment=(), usb=()",
    "X-Frame-Options": "DENY",
}


def site_headers(url: str) -> dict[str, str]:
    """Return the headers every file of the page has to be served with; `url` is the backend's base URL."""
    parts = urlsplit(url)
    origins = f"{parts.scheme}://{parts.netloc} {parts.scheme.replace('http', 'ws')}://{parts.netloc}"
    return {**HEADERS, "Content-Security-Policy": f"{PAGE_POLICY}; connect-src 'self' {origins}"}


def write_site(out: Path, url: str, apikey: str, pools: tuple[str, ...] = ()) -> int:
    """Write the page for a backend into a directory; return the number of files.

    Raises:
        SettingsError: the URL is none, or the directory holds something else already.
    """
    url = url.rstrip("/")
    parts = urlsplit(url)
    if parts.scheme not in ("https", "http") or not parts.hostname or parts.query or parts.fragment:
        raise SettingsError("desk-site", "--url", url, "https://name or https://name/pool")
    if not apikey:
        raise SettingsError("desk-site", "--apikey", "", "the backend's public key")
    if out.exists() and any(out.iterdir()) and not (out / "desk.js").exists():
        raise SettingsError("desk-site", "OUT", str(out), "an empty directory, or one made by this command")
    out.mkdir(parents=True, exist_ok=True)
    files = read_page()
    files["index.html"] = files.pop("desk.html")
    config: dict[str, object] = {
        "apikey": apikey,
        "realtime": url + REALTIME_PATH.rpartition("/")[0],
        "verbs": url + VERB_PATH,
    }
    if pools:
        config["pools"] = list(pools)
    files["config.json"] = (json.dumps(config, indent=2) + "\n").encode()
    lines = ["/*", *(f"  {name}: {value}" for name, value in site_headers(url).items())]
    files[HEADERS_FILE] = ("\n".join(lines) + "\n").encode()
    for name, content in files.items():
        (out / name).write_bytes(content)
    return len(files)
