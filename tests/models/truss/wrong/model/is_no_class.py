"""No class at all."""
