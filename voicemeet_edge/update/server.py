"""The update server: the hub, or any static HTTPS server, asked for an offer and for the bundle beside it.

One rule: what comes is limited in size and time before it is looked at, and redirects are not followed.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import shutil
import ssl
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote, urlsplit

from voicemeet_edge.backend.pin import tls_context
from voicemeet_edge.errors import EnvironmentFault, LocalError
from voicemeet_edge.secret import Secret
from voicemeet_edge.update.offer import (
    MAX_BUNDLE_BYTES,
    MAX_OFFER_BYTES,
    PASS_HEADER,
    UpdateOffer,
    offer_name,
)

ANSWER_LIMIT_S = 30.0  # s without a byte
FETCH_LIMIT_S = 4 * 3_600.0  # s for a whole bundle; a line of 100 kb/s takes that for 150 MB
CHUNK = 65_536  # bytes read at once
SPARE_BYTES = 64 << 20  # bytes that stay free beside a bundle


class ServerError(EnvironmentFault):
    """The update server did not give what was asked."""

    code = "update_server"


class UpdateServer:
    """One server.

    Args:
        url: folder with the offer and the bundle.
        pin: SHA-256 of the server's certificate; "" for the system's authorities.
        apikey: of the hub, which serves nobody else.
        shown_pass: of the device; a hub counts how an update went only for who has one.
    """

    def __init__(
        self, url: str, *, pin: str = "", apikey: Secret | None = None, shown_pass: Secret | None = None
    ) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise LocalError("an update comes from a file, or from https://…", code="bad_url")
        self._parts = parts
        self._path = parts.path.rstrip("/")
        self._context = tls_context(pin) if parts.scheme == "https" else None
        self._apikey = apikey
        self._pass = shown_pass

    def offer(self, board: str) -> UpdateOffer | None:
        """Ask for the offer for a board; None when the server has none.

        Raises:
            ServerError: no answer, or one that makes no sense as HTTP.
            OfferError: the offer cannot be read.
        """
        with self._get(offer_name(board)) as answer:
            if answer.status == 404:
                return None
            if answer.status != 200:
                raise ServerError(f"the update server answers {answer.status}")
            return UpdateOffer.parse(answer.read(MAX_OFFER_BYTES + 1))

    def fetch(
        self,
        name: str,
        folder: Path,
        *,
        size: int | None = None,
        sha256: str = "",
        progress: Callable[[int, int], None] = lambda done, whole: None,
    ) -> Path:
        """Fetch a bundle into a folder, going on where an earlier try ended; returns the file.

        `size` and `sha256` are of the offer. Without them (an address given by a person) the server's word
        for the size is taken.

        Raises:
            ServerError: it did not come whole; what came is kept for the next try.
        """
        part = folder / f"{sha256[:16] or 'given'}.part"
        for other in folder.glob("*.part"):
            if other != part or not sha256:
                other.unlink()
        target = folder / "bundle.raucb"
        target.unlink(missing_ok=True)  # of an update that lost its power; there may not be room for two
        have = part.stat().st_size if part.exists() else 0
        if size is None or have < size:
            self._fetch_rest(name, part, have, size, progress)
        if sha256 and _digest(part) != sha256:
            part.unlink()
            raise ServerError(
                "what was fetched is not what the offer says (its hash differs)", code="bad_hash"
            )
        part.replace(target)
        return target

    def report(self, board: str, version: str, *, good: bool) -> None:
        """Tell how an update went; a static server's refusal does not matter."""
        table: dict[str, object] = {"board": board, "version": version, "good": good}
        if self._pass:
            table["pass"] = self._pass.reveal()
        body = json.dumps(table).encode()
        with self._ask("POST", "outcome", body=body, headers={"Content-Type": "application/json"}):
            pass

    def _fetch_rest(
        self,
        name: str,
        part: Path,
        have: int,
        size: int | None,
        progress: Callable[[int, int], None],
    ) -> None:
        headers = {"Range": f"bytes={have}-"} if have else {}
        with self._get(name, headers) as answer:
            if answer.status not in (200, 206):
                raise ServerError(f"the update server answers {answer.status} for the bundle")
            if answer.status == 200:
                have = 0
            whole = size if size is not None else have + (answer.length or 0)
            if not 0 < whole <= MAX_BUNDLE_BYTES:
                raise ServerError("the update server does not say how long the bundle is")
            free = shutil.disk_usage(part.parent).free
            if free < whole - have + SPARE_BYTES:
                need = (whole - have + SPARE_BYTES) >> 20
                raise ServerError(f"{need} MB must be free on the data partition, and {free >> 20} MB are")
            try:
                with part.open("ab" if have else "wb") as file:
                    self._copy(answer, file, have, whole, progress)
            except OSError as error:  # the disk's and not the server's, whom `_ask` would blame
                raise ServerError(f"the bundle cannot be kept: {error.strerror}", code="not_kept") from None

    def _copy(
        self,
        answer: http.client.HTTPResponse,
        file: BinaryIO,
        have: int,
        whole: int,
        progress: Callable[[int, int], None],
    ) -> None:
        until = time.monotonic() + FETCH_LIMIT_S
        while have < whole:
            chunk = self._read(answer, min(CHUNK, whole - have))
            if not chunk:
                raise ServerError("the bundle was cut off on its way; the next try goes on there")
            if time.monotonic() > until:
                raise ServerError("the bundle takes too long; the next try goes on there")
            file.write(chunk)
            have += len(chunk)
            progress(have, whole)

    @staticmethod
    def _read(answer: http.client.HTTPResponse, most: int) -> bytes:
        try:
            return answer.read1(most)  # what is there: who drips must not put off the look at the clock
        except (OSError, http.client.HTTPException):
            return b""

    def _get(
        self, name: str, headers: dict[str, str] | None = None
    ) -> AbstractContextManager[http.client.HTTPResponse]:
        return self._ask("GET", name, headers=headers)

    @contextmanager
    def _ask(
        self, method: str, name: str, *, body: bytes | None = None, headers: dict[str, str] | None = None
    ) -> Iterator[http.client.HTTPResponse]:
        host, port = self._parts.hostname or "", self._parts.port
        connection: http.client.HTTPConnection
        if self._context is not None:
            connection = http.client.HTTPSConnection(
                host, port, timeout=ANSWER_LIMIT_S, context=self._context
            )
        else:
            connection = http.client.HTTPConnection(host, port, timeout=ANSWER_LIMIT_S)
        sent = dict(headers or {})
        if self._apikey:
            sent["apikey"] = self._apikey.reveal()
            if self._pass:  # a hub has places for those it knows; no other server is shown it
                sent[PASS_HEADER] = self._pass.reveal()
        try:
            connection.request(method, f"{self._path}/{quote(name)}", body=body, headers=sent)
            yield connection.getresponse()
        except (OSError, ssl.SSLError, http.client.HTTPException) as error:
            raise ServerError(f"the update server does not answer ({type(error).__name__})") from None
        finally:
            connection.close()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
