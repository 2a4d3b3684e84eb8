"""Bytes to messages and back, as RFC 9110 and RFC 9112 have it. Knows no model."""
