"""The licences of Qwen 1.5 to 3, which differ from size to size."""

from beichen.models.licence import Licence

LICENCE = Licence(
    name="Apache-2.0, or a Qwen licence",
    commercial_use="free for most sizes",
    conditions=(
        "Apache-2.0: Qwen 2 up to 7B, Qwen 2.5 but for 3B and 72B, and all of Qwen 3.",
        "Qwen licence: Qwen 1.5 from 7B on, Qwen 2 72B, Qwen 2.5 72B; above 100 million monthly users it needs a request.",
        "Qwen research licence: Qwen 1.5 up to 4B, Qwen 2.5 3B; non-commercial.",
        "The licence file that comes with the weights has the last word.",
    ),
)
