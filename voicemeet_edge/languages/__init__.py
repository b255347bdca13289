"""Everything people read on the desk page and hear from a device, once for each language."""
