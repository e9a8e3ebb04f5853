"""What is minimised: (decoder, batch) -> a loss sum, the number of targets it sums over, and metrics.

Losses are sums; the training step divides once by the count of the whole optimizer step, so that accumulation and ranks
cannot change a gradient. One file an objective, one line in ``registry.py``.
"""
