"""The actions of `beichen tokenizer`, one file each."""
