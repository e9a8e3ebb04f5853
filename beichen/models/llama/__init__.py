"""Llama 2 and 3."""

from beichen.models.family import Family
from beichen.models.llama import chat, config, licence, names, sizes

FAMILY = Family(
    name="llama",
    to_decoder_config=config.to_decoder_config,
    publish=config.publish,
    adapt=config.adapt,
    names=names.NAMES,
    sizes=sizes.SIZES,
    chat_template=chat.TEMPLATE,
    licence=licence.LICENCE,
)
