"""TeleChat-52B: fused projections stored transposed, multipliers after muP, a rope rule of its own."""

from beichen.models.family import Family
from beichen.models.telechat2 import licence
from beichen.models.telechat52b import chat, config, mindspore, names, sizes

FAMILY = Family(
    name="telechat52b",
    to_decoder_config=config.to_decoder_config,
    publish=config.publish,
    adapt=config.adapt,
    names=names.NAMES,
    sizes=sizes.SIZES,
    chat_template=chat.TEMPLATE,
    licence=licence.LICENCE,
    layouts=mindspore.LAYOUTS,
)
