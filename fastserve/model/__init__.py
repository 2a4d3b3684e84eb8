"""Payload to result: the user's model, loaded and run. Knows no HTTP."""
