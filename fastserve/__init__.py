"""fastserve puts one Python model behind HTTP: `fastserve ./my-model --port 8080`."""

__version__ = "0.1.0"
