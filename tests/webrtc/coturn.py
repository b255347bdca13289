"""A real coturn on loopback for the tests, with the same kind of credentials the hub gives."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
import hmac
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.ports import reserved_port
from voicemeet_edge.secret import Secret
from voicemeet_edge.testing.network import Network
from voicemeet_edge.webrtc.dtls import EdgeCertificate
from voicemeet_edge.webrtc.ice_server import IceServer

SECRET = "a secret of this test only"
START_LIMIT_S = 20.0


@dataclass(frozen=True)
class Coturn:
    """A running server."""

    port: int
    tls_port: int
    folder: Path
    log: Path
    ca: str
    address: str = "127.0.0.1"

    def server(self, *urls: str, ttl_s: int = 600, secret: str = SECRET, user: str = "test") -> IceServer:
        """Return credentials for the given URLs, or for UDP."""
        username = f"{int(time.time()) + ttl_s}:{user}"
        digest = hmac.new(secret.encode(), username.encode(), hashlib.sha1).digest()
        return IceServer(urls or (self.udp,), username, Secret(base64.b64encode(digest).decode()))

    @property
    def udp(self) -> str:
        """The URL that is tried first."""
        return f"turn:{self.address}:{self.port}?transport=udp"

    @property
    def tcp(self) -> str:
        """The second."""
        return f"turn:{self.address}:{self.port}?transport=tcp"

    @property
    def tls(self) -> str:
        """The third; the name is the one in the certificate."""
        return f"turns:localhost:{self.tls_port}?transport=tcp"


def _certificate(folder: Path) -> None:
    """A self-signed certificate for `localhost`, which is also its own authority."""
    template = EdgeCertificate.generateCertificate()._cert
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "localhost")])
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(template.not_valid_before_utc)
        .not_valid_after(template.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "cert.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    (folder / "key.pem").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )


@asynccontextmanager
async def coturn(
    folder: Path, *extra: str, network: Network | None = None, node: str = ""
) -> AsyncIterator[Coturn]:
    """Run turnserver until the block ends, on loopback or on a node of a network."""
    binary = shutil.which("turnserver")
    if binary is None:
        pytest.skip("coturn is not installed (Debian package coturn)")
    port, tls_port = reserved_port(), reserved_port()
    address = "127.0.0.1" if network is None else network.address(node)
    command = (lambda *argv: list(argv)) if network is None else partial(network.command, node)
    _certificate(folder)
    log = folder / "turn.log"
    config = folder / "turnserver.conf"
    lines = [
        f"listening-ip={address}", f"relay-ip={address}", f"listening-port={port}",
        f"tls-listening-port={tls_port}", f"cert={folder}/cert.pem", f"pkey={folder}/key.pem", "no-dtls",
        "use-auth-secret", f"static-auth-secret={SECRET}", "realm=test", "allow-loopback-peers", "no-cli",
        "fingerprint", f"pidfile={folder}/pid", f"userdb={folder}/db", f"log-file={log}", "simple-log",
        "verbose",
        *extra,
    ]  # fmt: skip
    config.write_text("\n".join(lines) + "\n")
    process = await asyncio.create_subprocess_exec(
        *command(binary, "-c", str(config)),
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(START_LIMIT_S):
            for ready in (port, tls_port):
                with contextlib.nullcontext() if network is None else network.inside(node):
                    await _accepts(address, ready, process)
        yield Coturn(port, tls_port, folder, log, str(folder / "cert.pem"), address)
    finally:
        if process.returncode is None:
            process.terminate()
        await process.wait()


async def _accepts(address: str, port: int, process: asyncio.subprocess.Process) -> None:
    while True:
        assert process.returncode is None, "turnserver ended at once"
        try:
            _, writer = await asyncio.open_connection(address, port)
        except OSError:
            await asyncio.sleep(0.02)
            continue
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
        return
