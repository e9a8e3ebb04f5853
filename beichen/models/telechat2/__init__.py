"""TeleChat2: 3B, 7B, 35B, 115B (dense)."""

from beichen.models.family import Family
from beichen.models.telechat2 import chat, config, mindspore, names, sizes

FAMILY = Family(
    name="telechat2",
    to_decoder_config=config.to_decoder_config,
    publish=config.publish,
    adapt=config.adapt,
    names=names.NAMES,
    sizes=sizes.SIZES,
    chat_template=chat.TEMPLATE,
    compatibility=config.COMPATIBILITY,
    layouts=mindspore.LAYOUTS,
)
