"""The licence of Qwen 1."""

from beichen.models.licence import Licence

LICENCE = Licence(
    name="Tongyi Qianwen licence",
    commercial_use="free below 100 million monthly users",
    conditions=(
        "Above 100 million monthly users it needs a request to the licensor.",
        "Qwen-1.8B is under the Tongyi Qianwen research licence: non-commercial.",
        "Outputs may not improve other language models, except Qwen's own derivatives.",
    ),
)
