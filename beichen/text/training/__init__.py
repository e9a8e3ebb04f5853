"""Training a byte-level BPE tokenizer in bounded memory: count pieces, spill sorted runs, combine them, learn merges, write the files.

Every stage has a compiled and a slow form with the same result, and leaves on disk what it has done, so that a killed run goes on.
"""
