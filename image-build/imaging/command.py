"""How the commands beside this folder start: parse, enter the namespace, say what went wrong in one line."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable

from imaging.namespace import NamespaceError, run_inside
from imaging.steps import BuildError, say


def start(parser: argparse.ArgumentParser, work: Callable[[argparse.Namespace], None]) -> int:
    """Run `work` with the parsed options inside a user namespace; the exit status is the command's."""
    options = parser.parse_args()

    def inside() -> int:
        try:
            work(options)
        except BuildError as error:
            say(f"{parser.prog}: {error}")
            return 1
        return 0

    try:
        return run_inside(inside)
    except NamespaceError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 1
