"""TeleChat2: 3B, 7B, 35B, 115B, dense, and 39B-A12B with experts."""

from beichen.models.family import Family
from beichen.models.telechat2 import chat, config, licence, mindspore, names, sizes

FAMILY = Family(
    name="telechat2",
    to_decoder_config=config.to_decoder_config,
    publish=config.publish,
    adapt=config.adapt,
    names=names.NAMES,
    sizes=sizes.SIZES,
    chat_template=chat.TEMPLATE,
    licence=licence.LICENCE,
    has_experts=True,
    compatibility=config.COMPATIBILITY,
    layouts=mindspore.LAYOUTS,
    expert_layouts=mindspore.EXPERT_LAYOUTS,
)
