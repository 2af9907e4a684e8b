"""Readers of public data sets, one module each; each writes an event store."""
