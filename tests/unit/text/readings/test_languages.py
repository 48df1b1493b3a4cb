"""The language whose rules read a text's numbers: others keep theirs, and names or loans do not make a text foreign."""

from __future__ import annotations

import pytest

from tritone.text.reading.languages import language_of
from tritone.text.spoken_form import spoken_form

TEXTS = {
    "": [
        "Bei 10 hoch 7 Metern sind wir da.", "Der Preis ist 3,50 Euro am 24.12.2024.", "Ich habe 5 % gespart.",
        "Im Jahr 1990 war Dr. Müller hier.", "Tengo 3 gatos y 21 perros.", "J'ai 3 chats et 80 euros.",
        "У меня 3 кошки.", "저는 고양이 3마리가 있어요.", "Ho 3 gatti e 2 cani, non 5.", "Il y a 20 ans, c'était bien.",
        "Eu não tenho 5 euros.", "Jag har 3 katter och 2 hundar.", "لدي 3 قطط", "มีแมว 3 ตัว", "मेरे पास 3 हैं",
    ],
    "en": [
        "I have 3 cats.", "Müller paid $5.", "The café in Zürich costs €5.", "La La Land won 6 awards.", "5", "12:30",
        "De Niro won 2 Oscars.", "Los Angeles has 4 million people.", "He's 5 and they're 6.", "The letter π is 3.14.",
        "El Paso is 20 miles away.", "Order #5", "Beyoncé sold 3 million",
        "Dr. Smith met 5.", "MIT won 3.", "Van der Waals gave 2.", "Pour 3 cups.",
        "Hay costs $5.", "O'Brien and D'Angelo have 2", "et al. 1990",
    ],
    "zh": ["今天3点", "我用iPhone15打电话给Tom。"],
    "ja": ["私は猫を3匹飼っています。", "ねこが3びきいます。", "カメラ 5"],
}  # fmt: skip


@pytest.mark.parametrize("language", TEXTS)
def test_the_language_of_a_text(language: str) -> None:
    assert {text: language_of(text) for text in TEXTS[language]} == dict.fromkeys(TEXTS[language], language)


def test_other_languages_keep_their_digits() -> None:
    assert [spoken_form(text) for text in TEXTS[""]] == TEXTS[""]
