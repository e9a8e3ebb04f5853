"""Which chat template speaks to this family (the templates themselves are data of ``text``)."""

TEMPLATE = "telechat52b"
