"""Architecture families as tables: one folder each, found through ``registry``."""
