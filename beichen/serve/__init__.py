"""The server: what HTTP clients send and get, over the engine."""
