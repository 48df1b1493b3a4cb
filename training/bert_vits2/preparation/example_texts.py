"""Sentences of the example in three languages, generated from a few words."""

from __future__ import annotations

import random
from itertools import product

WHO = {
    "ZH": ("我", "你", "他们", "我的朋友", "老师", "那个孩子", "我们", "王先生", "我妹妹", "医生"),
    "JP": ("私", "父", "先生", "友達", "あの子供", "兄", "田中さん", "お母さん", "学生", "僕"),
    "EN": ("The teacher", "My brother", "A young girl", "Our neighbour", "The old man", "Her doctor", "Everyone",
           "The farmer", "Your cousin", "The children"),
}  # fmt: skip
WHEN = {
    "ZH": ("今天", "昨天晚上", "明天早上", "每个星期天", "现在", "下午三点", "夏天", "去年冬天", "常常", "刚才"),
    "JP": ("今日", "昨日の夜", "明日の朝", "日曜日に", "今", "午後", "夏に", "去年の冬", "いつも", "さっき"),
    "EN": ("in the morning", "last night", "on Sunday", "after the rain", "every summer", "before dinner", "at noon",
           "once again", "very quietly", "with great joy"),
}  # fmt: skip
WHAT = {
    "ZH": ("去公园跑步", "喝一杯热茶", "买了很多水果", "看一本新书", "给家里打电话", "听音乐", "在河边散步",
           "学习说日语", "坐火车去北京", "吃饺子", "写信", "把窗户打开"),
    "JP": ("公園を走ります", "熱いお茶を飲みます", "果物をたくさん買いました", "新しい本を読みます", "家に電話しました",
           "音楽を聞きます", "川のそばを歩きました", "英語を勉強します", "電車で京都へ行きます", "ご飯を作ります",
           "手紙を書きました", "窓を開けます"),
    "EN": ("walked along the river", "drank a cup of hot tea", "bought a basket of fruit", "read the new book",
           "called home", "sang a quiet song", "opened the kitchen window", "took the train to town", "fixed the gate",
           "watched the grey ships", "wrote a long letter", "gave the dog a bath"),
}  # fmt: skip
ORDER = {"ZH": "{who}{when}{what}。", "JP": "{who}は{when}、{what}。", "EN": "{who} {what} {when}."}


def made_up(language: str, count: int, seed: int = 0) -> list[str]:
    """Return `count` different sentences (at most 1200) in "ZH", "JP" or "EN", equal for equal arguments."""
    texts = [
        ORDER[language].format(who=who, when=when, what=what)
        for who, when, what in product(WHO[language], WHEN[language], WHAT[language])
    ]
    random.Random(seed).shuffle(texts)
    return texts[:count]
