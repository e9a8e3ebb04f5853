"""TeleChat, the first generation: 7B, 12B, 12B-V2."""

from beichen.models.family import Family
from beichen.models.telechat import chat, config, names, sizes
from beichen.models.telechat2 import licence, mindspore

FAMILY = Family(
    name="telechat",
    to_decoder_config=config.to_decoder_config,
    publish=config.publish,
    adapt=config.adapt,
    names=names.NAMES,
    sizes=sizes.SIZES,
    chat_template=chat.TEMPLATE,
    licence=licence.LICENCE,
    compatibility=config.COMPATIBILITY,
    layouts=mindspore.DENSE_LAYOUTS,
)
