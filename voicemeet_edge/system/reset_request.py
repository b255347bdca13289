"""The factory-reset request, as a file that whoever runs the machine may act on.

One rule: the device itself erases nothing; it may not write where its settings are.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Mapping
from pathlib import Path

logger = logging.getLogger(__name__)

NAME = "factory-reset"


def leave_request(environment: Mapping[str, str] = os.environ) -> Path | None:
    """Make the empty file in the unit's RuntimeDirectory=, and return where; None when there is no place."""
    folder = environment.get("RUNTIME_DIRECTORY", "").split(":")[0]
    if not folder:
        logger.warning("a factory reset was asked for at the panel; without systemd nobody is told")
        return None
    path = Path(folder) / NAME
    try:
        path.touch(mode=0o600)
    except OSError as error:
        logger.warning("a factory reset was asked for at the panel, and cannot be noted: %s", error.strerror)
        return None
    logger.warning("a factory reset was asked for at the panel: %s is there until the service ends", NAME)
    return path
