"""The whole server, loaded over loopback."""
