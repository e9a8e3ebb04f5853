"""The small vocabulary that lists, facts and translations draw from: pairs of a Chinese and an English word, and first names."""

from __future__ import annotations

from beichen.quickstart.skills.skill import Language

# Short everyday words; each Chinese and each English one occurs once.
WORDS = (
    ("猫", "cat"), ("狗", "dog"), ("鸟", "bird"), ("鱼", "fish"), ("马", "horse"), ("牛", "cow"), ("羊", "sheep"), ("鸡", "hen"),
    ("鸭", "duck"), ("兔", "rabbit"), ("虎", "tiger"), ("熊", "bear"), ("花", "flower"), ("草", "grass"), ("树", "tree"), ("叶", "leaf"),
    ("山", "hill"), ("河", "river"), ("湖", "lake"), ("海", "sea"), ("石", "stone"), ("雨", "rain"), ("雪", "snow"), ("风", "wind"),
    ("云", "cloud"), ("星", "star"), ("火", "fire"), ("水", "water"), ("门", "door"), ("窗", "window"), ("桌", "table"), ("床", "bed"),
    ("灯", "lamp"), ("书", "book"), ("笔", "pen"), ("纸", "paper"), ("刀", "knife"), ("碗", "bowl"), ("杯", "cup"), ("车", "car"),
    ("船", "boat"), ("路", "road"), ("桥", "bridge"), ("城", "city"), ("糖", "sugar"), ("盐", "salt"), ("米", "rice"), ("茶", "tea"),
    ("奶", "milk"), ("蛋", "egg"), ("肉", "meat"), ("豆", "bean"), ("手", "hand"), ("脚", "foot"), ("眼", "eye"), ("耳", "ear"),
    ("衣", "coat"), ("鞋", "shoe"), ("帽", "hat"), ("伞", "umbrella"),
)  # fmt: skip

NAMES = {
    "zh": (
        "小红", "小明", "小刚", "小丽", "小华", "小芳", "小强", "小军", "小梅", "小林", "小龙", "小玉",
        "小松", "小兰", "小杰", "小静", "小波", "小雷", "小燕", "小宁", "小峰", "小洁", "小勇", "小霞",
    ),
    "en": (
        "Anna", "Tom", "Bob", "Lucy", "Jack", "Mary", "Paul", "Jane", "Peter", "Rose", "Sam", "Emma",
        "David", "Kate", "John", "Lily", "Mark", "Alice", "Henry", "Grace", "Leo", "Nina", "Frank", "Helen",
    ),
}  # fmt: skip

# Twelve values of each kind that a stated fact may have.
COLOURS = {
    "zh": ("红色", "黄色", "蓝色", "绿色", "白色", "黑色", "紫色", "灰色", "棕色", "粉色", "橙色", "金色"),
    "en": ("red", "yellow", "blue", "green", "white", "black", "purple", "grey", "brown", "pink", "orange", "gold"),
}
PLACES = {
    "zh": ("学校", "公园", "医院", "车站", "商店", "银行", "海边", "家里", "机场", "农场", "书店", "邮局"),
    "en": ("school", "park", "hospital", "station", "shop", "bank", "beach", "home", "airport", "farm", "library", "office"),
}
AGES = tuple(map(str, range(7, 19)))
BOOKS = tuple(map(str, range(20, 32)))


def word(number: int, language: Language) -> str:
    """Word ``number`` in one of the two languages."""
    return WORDS[number][0 if language == "zh" else 1]
