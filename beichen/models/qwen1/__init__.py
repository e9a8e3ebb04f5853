"""Qwen 1 (2023): 1.8B, 7B, 14B."""

from beichen.models.family import Family
from beichen.models.qwen1 import chat, config, licence, names, sizes

FAMILY = Family(
    name="qwen1",
    to_decoder_config=config.to_decoder_config,
    publish=config.publish,
    adapt=config.adapt,
    names=names.NAMES,
    sizes=sizes.SIZES,
    chat_template=chat.TEMPLATE,
    licence=licence.LICENCE,
)
