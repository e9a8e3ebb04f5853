"""Which chat template speaks to this family: none of ours yet, since the first generation builds its prompts from ids."""

TEMPLATE = None
