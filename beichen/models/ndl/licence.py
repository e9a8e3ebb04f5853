"""The licence of NDL: there is none."""

from beichen.models.licence import Licence

LICENCE = Licence(
    name="none stated",
    commercial_use="not granted",
    conditions=("Neither repository grants any right: ask the author before any use beyond what the law allows.",),
)
