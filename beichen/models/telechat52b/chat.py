"""Which chat template speaks to this family: none of ours yet."""

TEMPLATE = None
