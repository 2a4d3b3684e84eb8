"""The servers that are compared, each in its own folder; `field.py` says how each is installed and started."""
