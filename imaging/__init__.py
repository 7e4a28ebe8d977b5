"""Pixels and files; nothing here knows a network."""
