"""The local API: what ``ldm`` and other programs on the machine talk to."""
