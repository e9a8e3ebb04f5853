"""The commands: one file each, thin, with late imports; the only area that prints, exits and draws progress."""
