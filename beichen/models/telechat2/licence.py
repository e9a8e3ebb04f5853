"""The licence of TeleChat, TeleChat-52B and TeleChat2: one document for all three."""

from beichen.models.licence import Licence

LICENCE = Licence(
    name="TeleChat community licence",
    commercial_use="on written permission",
    conditions=(
        "Non-commercial use is free of charge; the grant is revocable, non-transferable and cannot be sublicensed.",
        "Commercial use, hosted services included, needs registration with the licensor and written permission beforehand.",
        "Copies come with their source, the licence text and a prominent note of what was changed.",
        'Derivatives that are published or ranked show "TeleChat Inside"; models trained on its outputs count as derivatives.',
        "No military or unlawful use; the law of the People's Republic of China applies.",
        "Some model pages state Apache-2.0 instead: until that is clarified, take the stricter one as binding.",
    ),
)
