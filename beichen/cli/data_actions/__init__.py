"""What `beichen data` can do: one file an action, one line each in ``cli/data.py``."""
