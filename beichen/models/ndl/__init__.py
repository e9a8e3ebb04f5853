"""NDL: 0.8B dense and 1.3B with experts."""

from beichen.models.family import Family
from beichen.models.ndl import chat, config, licence, names, sizes

FAMILY = Family(
    name="ndl",
    to_decoder_config=config.to_decoder_config,
    publish=config.publish,
    adapt=config.adapt,
    names=names.NAMES,
    sizes=sizes.SIZES,
    chat_template=chat.TEMPLATE,
    licence=licence.LICENCE,
    has_experts=True,
    compatibility=config.COMPATIBILITY,
)
