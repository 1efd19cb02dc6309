"""``./demo``: two machines, a running guest that moves between them, and trouble on the way."""
