"""What only Linux can say or do: topology, memory pool, bridges, disk identity, pinning."""
