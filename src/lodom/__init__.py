"""Lodom: a Logical Domains Manager for Linux.  ARCHITECTURE.md is the map."""

__version__ = "0.1.0"
