"""The reports of a hub, for the person who looks into them: listed, held, released.

One rule: what is shown is what is stored; there is nothing else to show.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from voicemeet_edge.errors import LocalError
from voicemeet_edge.hub.pass_desk import DATABASE_FILE, SHOWN_ID_CHARS
from voicemeet_edge.hub.settings import load_hub_settings
from voicemeet_edge.hub.store import Report, Store


async def look_into_reports(config: Path, *, hold: str | None = None, release: str | None = None) -> str:
    """Hold or release one report when asked, and return the list as text; beside a running hub or alone.

    Raises:
        SettingsError: the settings cannot be used.
        LocalError: there is no database, or no report with that receipt.
    """
    settings = load_hub_settings(config)
    path = settings.state_dir / DATABASE_FILE
    if not path.exists():
        raise LocalError(f"{path}: no hub has run with these settings yet", code="no_database")
    store = Store(path)
    await store.open()
    try:
        for receipt, held in ((hold, True), (release, False)):
            if receipt is not None and not await store.hold(receipt, held):
                raise LocalError(f"there is no report with the receipt {receipt}", code="no_report")
        labels = {entry.id: entry.label for entry in await store.passes()}
        return table(await store.reports(), settings.call.report_days, time.time(), labels)
    finally:
        await store.close()


def table(
    reports: list[Report], report_days: float, now: float, labels: Mapping[str, str] | None = None
) -> str:
    """The list a person reads, newest first; `labels` are the operator's words for passes, by their id."""
    labels = labels or {}
    if not reports:
        return "no reports"
    rows = [("receipt", "filed (UTC)", "reason", "pool", "about", "kept")]
    for report in sorted(reports, key=lambda report: -report.at):
        filed = datetime.fromtimestamp(report.at, UTC).strftime("%Y-%m-%d %H:%M")
        left = max(0.0, report_days - (now - report.at) / 86_400)
        kept = "held" if report.held else f"{left:.0f} more days"
        # A party with a pass is known by it, and can be talked to, or its pass taken back.
        named = report.pass_id and f"pass {labels.get(report.pass_id) or report.pass_id[:SHOWN_ID_CHARS]}"
        about = named or (report.reported[:12] if report.reported else "unknown")
        rows.append((report.receipt, filed, report.reason, report.pool or "-", about, kept))
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    )
