"""The bill of materials of an image, as CycloneDX: every Debian package and Python wheel, with licences.

Run by the tools' own Python, which has the CycloneDX library: python3 sbom.py FACTS.json > OUT.json
"""

from __future__ import annotations

import json
import sys
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


def facts(
    *,
    name: str,
    version: str,
    debian: dict[str, tuple[str, str]],
    wheels: dict[str, tuple[str, str]],
    others: dict[str, str],
    arch: str,
    epoch: int,
) -> dict[str, Any]:
    """What `main` is told: packages {name: (version, sha256)}, wheels {name: (version, licence)}."""
    return {
        "name": name,
        "version": version,
        "arch": arch,
        "epoch": epoch,
        "debian": [[key, *value] for key, value in sorted(debian.items())],
        "wheels": [[key, *value] for key, value in sorted(wheels.items())],
        "others": sorted(others.items()),
    }


def main(path: Path) -> str:
    from cyclonedx.model import HashAlgorithm, HashType  # type: ignore[import-not-found]
    from cyclonedx.model.bom import Bom  # type: ignore[import-not-found]
    from cyclonedx.model.component import Component, ComponentType  # type: ignore[import-not-found]
    from cyclonedx.model.license import DisjunctiveLicense  # type: ignore[import-not-found]
    from cyclonedx.output.json import JsonV1Dot6  # type: ignore[import-not-found]
    from packageurl import PackageURL  # type: ignore[import-not-found]

    told = json.loads(path.read_text())
    root = Component(
        name=told["name"],
        version=told["version"],
        type=ComponentType.FIRMWARE,
        bom_ref=f"image:{told['name']}",
    )
    bom = Bom(
        serial_number=uuid.uuid5(uuid.NAMESPACE_URL, f"{told['name']} {told['version']} {told['epoch']}")
    )
    bom.metadata.timestamp = datetime.fromtimestamp(told["epoch"], UTC)
    bom.metadata.component = root
    parts = []
    for name, version, digest in told["debian"]:
        purl = PackageURL("deb", "debian", name, version, {"arch": told["arch"]})
        hashes = [HashType(alg=HashAlgorithm.SHA_256, content=digest)] if digest else []
        parts.append(
            Component(
                name=name,
                version=version,
                purl=purl,
                type=ComponentType.LIBRARY,
                hashes=hashes,
                bom_ref=str(purl),
            )
        )
    for name, version, licence in told["wheels"]:
        purl = PackageURL("pypi", None, name.lower(), version)
        licences = [DisjunctiveLicense(name=licence)]
        parts.append(
            Component(
                name=name,
                version=version,
                purl=purl,
                type=ComponentType.LIBRARY,
                licenses=licences,
                bom_ref=str(purl),
            )
        )
    for name, version in told["others"]:
        parts.append(
            Component(name=name, version=version, type=ComponentType.FIRMWARE, bom_ref=f"other:{name}")
        )
    for part in parts:
        bom.components.add(part)
    bom.register_dependency(root, parts)
    return str(JsonV1Dot6(bom).output_as_string(indent=1))


if __name__ == "__main__":
    print(main(Path(sys.argv[1])))
