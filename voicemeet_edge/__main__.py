"""`python -m voicemeet_edge`: the same as the command `voicemeet-edge`."""

from voicemeet_edge.cli import main

raise SystemExit(main())
