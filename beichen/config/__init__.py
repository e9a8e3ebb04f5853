"""Settings: YAML recipes and ``--a.b value`` into frozen dataclasses, and back into text.

Every fault names its key path, the file and line (or the flag), what was expected, and the nearest valid key; all faults of
a run are shown together. Files to read in this order: ``sources`` (text to raw values with origins), ``kinds`` (what a type expects),
``reader`` (raw values to dataclasses), ``output`` (dataclasses to text).
"""

from beichen.config.output import help_on_settings, settings_as_dict, settings_as_yaml
from beichen.config.reader import parse_settings, read_settings

__all__ = ["help_on_settings", "parse_settings", "read_settings", "settings_as_dict", "settings_as_yaml"]
