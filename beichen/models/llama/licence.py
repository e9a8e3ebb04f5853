"""The licences of Llama: one per generation, alike in what they ask."""

from beichen.models.licence import Licence

LICENCE = Licence(
    name="Llama community licence of the generation",
    commercial_use="free below 700 million monthly users",
    conditions=(
        "Whoever had more than 700 million monthly users when the generation came out needs a licence of its own.",
        "Copies come with the licence text and its notice; the acceptable use policy applies.",
        'From Llama 3 on: "Built with Llama" is shown, and derived models have names that begin with "Llama".',
        "Llama 2 and 3 forbid improving other language models with their outputs; from 3.1 on it is allowed.",
    ),
)
