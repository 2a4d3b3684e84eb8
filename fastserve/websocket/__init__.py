"""WebSocket connections after their handshake, as RFC 6455 has them. Knows no model; needs the websockets library."""
