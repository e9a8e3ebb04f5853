"""Qwen 1.5, 2, 2.5 and 3 (dense)."""

from beichen.models.family import Family
from beichen.models.qwen import chat, config, licence, names, sizes

FAMILY = Family(
    name="qwen",
    to_decoder_config=config.to_decoder_config,
    publish=config.publish,
    adapt=config.adapt,
    names=names.NAMES,
    sizes=sizes.SIZES,
    chat_template=chat.TEMPLATE,
    licence=licence.LICENCE,
)
