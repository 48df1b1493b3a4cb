"""The tables of Chinese and Japanese readings through every front end, and what must hold for any text."""

from __future__ import annotations

import re
from types import ModuleType

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.readings import READERS, missed, rows

from tritone.errors import InvalidRequest
from tritone.text.reading import chinese, japanese
from tritone.text.split import MAX_CHARACTERS

RULES = {"chinese": chinese, "japanese": japanese}
LEAST = {"chinese": 110, "japanese": 80}
PROPERTIES = settings(max_examples=150, derandomize=True, deadline=None, database=None)
FORMS = st.text("0123456789" * 3 + " .,-/:~～#$€¥%°℃+×=<>^½²第年月日时時点分个人元円kgmAPeT()", max_size=30)


def same(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


@pytest.mark.parametrize("language", RULES)
def test_the_rules_read_the_table(language: str) -> None:
    table = rows(language)
    found = {row.written: same(RULES[language].in_words(row.written)) for row in table if not row.missed}
    assert found == {row.written: same(row.spoken) for row in table if not row.missed}
    assert len(table) >= LEAST[language] and len({row.written for row in table}) == len(table)


@pytest.mark.parametrize(("language", "family"), [(language, name) for language in RULES for name in READERS[language]])
def test_each_family_reads_the_table_but_for_what_is_listed(language: str, family: str) -> None:
    for package in ("pypinyin", "jieba", "pyopenjtalk") if family == "bert_vits2" else ():
        pytest.importorskip(package)
    table = rows(language)
    expected = [row.written for row in table if family in row.missed]
    assert [row.written for row in missed(table, family, READERS[language][family])] == expected
    assert len(expected) <= 0.02 * len(table)


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_a_reading_is_not_read_again(rules: ModuleType) -> None:
    for language in RULES:
        for row in rows(language):
            once = rules.in_words(row.written)
            assert rules.in_words(once) == once


@pytest.mark.parametrize("rules", RULES.values(), ids=RULES)
def test_any_text_is_read_or_refused_and_no_number_vanishes(rules: ModuleType) -> None:
    @PROPERTIES
    @given(st.text(max_size=40) | FORMS)
    def check(text: str) -> None:
        try:
            spoken = rules.in_words(text)
        except InvalidRequest as error:
            assert "currency sign" in str(error)
            return
        assert not any(character.isdecimal() for character in spoken)
        assert any(character.isalnum() for character in spoken) or not any(character.isdecimal() for character in text)

    check()


@pytest.mark.parametrize(("rules", "form"), [(chinese, "共{}个。"), (japanese, "数は{}個です。")], ids=RULES)
def test_a_number_keeps_its_value(rules: ModuleType, form: str) -> None:
    @PROPERTIES
    @given(st.integers(0, 10**16 - 1) | st.integers(0, 12000))
    def check(value: int) -> None:
        for written in (str(value), f"{value:,}"):
            spoken = rules.in_words(form.format(written))
            before, after = form.split("{}")
            assert spoken.startswith(before) and spoken.endswith(after)
            assert value_of(spoken[len(before) : -len(after)]) == value

    check()


def value_of(words: str) -> int:
    """Return the value of a cardinal in Chinese numerals, by its largest place: its own way back."""
    words = words.replace("两", "二").replace("億", "亿").lstrip("零")
    for mark, place in {"兆": 10**12, "亿": 10**8, "万": 10**4, "千": 1000, "百": 100, "十": 10}.items():
        if mark in words:
            before, _, after = words.rpartition(mark) if place > 1000 else words.partition(mark)
            return (value_of(before) or 1) * place + value_of(after)
    return "零一二三四五六七八九".index(words) if words else 0


@pytest.mark.parametrize("before", ["订单#5，", "₹500、", "−7度 ", "[x] ~ ", "5'' ", "A/B ", "※"])
@pytest.mark.parametrize(("form", "spoken"), [("37人", "三十七人"), ("8%", "八"), ("$9", "九"), ("15kg", "十五")])
def test_an_odd_form_beside_a_number_changes_nothing(before: str, form: str, spoken: str) -> None:
    for rules in RULES.values():
        assert spoken in rules.in_words(before + form)


@pytest.mark.parametrize("sign", "₠₢₣₥₧₯₰₳₶₷")
def test_a_currency_without_a_name_is_refused_by_name(sign: str) -> None:
    for rules, name in ((chinese, "Chinese"), (japanese, "Japanese")):
        with pytest.raises(InvalidRequest, match=f"has the currency sign '{sign}', whose name in {name} is unknown"):
            rules.in_words(f"付了{sign}50。")


@pytest.mark.parametrize(
    "part", ["1", "1-", "1.", "a-b_", "1/", "$", "1,", "1:", "第", "IVX", "1a", "a.", "+1", "11元", ",111"]
)
def test_the_longest_text_of_one_kind_is_read_without_trying_everything(part: str) -> None:
    text = (part * MAX_CHARACTERS)[:MAX_CHARACTERS]
    for rules in RULES.values():
        assert not any(character.isdecimal() for character in rules.in_words(text))


def test_plain_numbers_are_those_of_the_published_front_end() -> None:
    wetext = pytest.importorskip("wetext")
    published = wetext.Normalizer(operator="tn", remove_erhua=False)
    forms = "2 10 15 22 200 220 999 1000 1001 1010 2000 2023 2222 9999 20000 220000 3000000 100000000 0.5 3.14"
    forms += " 1/2 -5 50% 0.5% 2025年 11月25日 14:30 2:30 02:05 5kg 25℃ 60km/h 100ml ¥100 $5.99 2万 3.5亿 3:2 10-20岁"
    for form in forms.split():
        assert chinese.in_words(f"我说{form}") == published.normalize(f"我说{form}", lang="zh")
