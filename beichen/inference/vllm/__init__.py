"""vLLM behind the same interface, and its own server over our folders; what it cannot do is refused by name."""
