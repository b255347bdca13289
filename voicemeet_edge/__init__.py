"""VoiceMeet Edge: a hardware voice-call device, its hub and its tools."""

__version__ = "0.1.0"
