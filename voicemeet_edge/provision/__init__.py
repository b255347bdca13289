"""What a person puts on the card's FAT partition, and how it becomes the system's own (docs/flash.md)."""
