"""Pure maths and modules on one device: rope rules, norms, attention, the cache, feed-forward, the decoder.

Nothing here knows a family's name, a file, or another process.
"""
