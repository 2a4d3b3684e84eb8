"""Content bytes to Python value and back, by Content-Type: JSON, msgpack, and bytes that go out as they lie."""
