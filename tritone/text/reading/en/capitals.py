"""Words in capitals told from abbreviations: STOP is a word, FBI is spelled, NASA is said as a word."""

from __future__ import annotations

import re
from collections.abc import Callable

from tritone.text.reading.tables import words

_SAID = frozenset(
    words(
        "NASA NATO UNESCO UNICEF OPEC FIFA UEFA AIDS COVID RADAR LASER SCUBA NAFTA FEMA DARPA ASEAN SWAT "
        "NASDAQ ASCII JPEG RAM ROM SIM PIN LAN WAN GIF POTUS SCOTUS INTERPOL CERN NIMBY YOLO HIPAA OSHA "
        "NOAA MIDI CAPTCHA BIOS UNIX LINUX WIFI IKEA LEGO SONAR GAAP RAID MASH SARS MERS OPEC CRISPR LIDAR"
    )
)
_SPELLED = (
    frozenset(
        words(
            "USA UK UAE EU UN AI API ATM BBC BMW CEO CFO COO CTO CIA CNN CPU GPU TPU CSS DIY DJ DNA RNA DVD CD "
            "ESPN FAQ FBI NSA FM GDP GMO GPS HBO HIV HR HTML HTTP HTTPS IBM IP IQ IRS ISO IOS IOT IPO JSON KFC "
            "LA LCD LED LGBTQ LLM MBA MIT MP MRI MTV MVP NBA NBC NFL NHL NYC NYU OS PC PDF PHD PIN PR PS PVC QA "
            "RSVP SAT SDK SEO SMS SOS SQL SSD SUV TV UCLA UFO UI URL USB USD VIP VPN WIFI WTO WWW XML YMCA ABC "
            "AC ADHD AKA AOL AP ASAP BA BBQ BFF BYOB CBS CCTV CIO CO CV DC DIY DMV DOJ DOD EPA ER ESL ETA EV "
            "FCC FDA FED FYI GMT GMC GOP HP HQ ICU ID IDE IMF IVF JFK KPI LOL MD ML MMA MS NGO NIH NPC OCD OCR "
            "OMG PBS PE PHP PM POW PTSD RV SA SEC SUVS TBA TBD TGIF TLC TNT TTS ASR UPS UTC UV VR AR WC WHO WWE "
            "WMD AMD HDMI HD UHD RGB CMYK IUPAC IVR KGB KIA NRA PGA PO QR RPG SMTP FTP SSH TCP UDP USPS USSR UX "
            "VAT VCR VC YA"
        )
    )
    - _SAID
)
_WORDS_IN_A_SENTENCE_OF_CAPITALS = frozenset(
    words("IT US AM WHO LED SAT SEC CO ID MS LA ER HE ME PO YA ARE PIN CAN MAY ALL ANY AID")
)
_ALSO_WORDS = frozenset(["IT", "US", "AM", "WHO"])
_TWO_LETTERS = frozenset(
    words("NO GO SO UP ON IN AT BY DO IF IS MY OF OH OR TO WE BE AN AS HE ME HI AH HA YO OW UH UM EH")
)
_SOUNDS = frozenset(words("HMM SHH SHHH MMM BRRR PFFT TSK PSST GRR GRRR UGH"))
_LETTERS = dict(
    zip(
        "ABCDEFGHIJKLMNOPQRSTUVWXYZ",
        words(
            "ays bees seas dees ease effs jees aitches eyes jays kays ells ems ens owes peas cues ars esses "
            "tease ewes vees doubleyous exes whys zees"
        ),
        strict=True,
    )
)
_SENTENCE = re.compile(r"[^.!?\n]+[.!?\n]*|[.!?\n]+")
_WORD = re.compile(r"[A-Za-z]+(?:'[A-Za-z]+)*")
_CAPITALS = re.compile(r"(?<![\w.])([A-Z]{2,})((?:'[A-Z]+)?)(?![\w]|\.[A-Z])")
_PLURAL = re.compile(r"(?<![\w.])([A-Z]{1,5})([A-Z])'?s(?!\w)")


def capitals_as_words(text: str, is_word: Callable[[str], bool]) -> str:
    """Return the text with words in capitals in small letters; what stays in capitals is to be spelled.

    Args:
        is_word: whether a pronouncing dictionary has a word, given in small letters.
    """
    if not any(character.isupper() for character in text):
        return text
    text = _PLURAL.sub(lambda match: _plural(match, is_word), text)
    return "".join(_sentence(sentence, is_word) for sentence in _SENTENCE.findall(text))


def _plural(match: re.Match[str], is_word: Callable[[str], bool]) -> str:
    """Return GPUs as GP ewes, which is how it is said."""
    word = match[1] + match[2]
    if word in _SAID:
        return word.lower() + "s"
    if len(word) > 2 and word not in _SPELLED and is_word(word.lower()):
        return match.group()
    return f"{match[1]} {_LETTERS[match[2]]}"


def _sentence(sentence: str, is_word: Callable[[str], bool]) -> str:
    words = [word for word in _WORD.findall(sentence) if len(word) > 1]
    capitals = [word for word in words if word.isupper()]
    plain = [word for word in capitals if word not in _SPELLED and word not in _SAID and _has_vowel(word)]
    all_in_capitals = len(capitals) > 1 and len(plain) * 2 > len(capitals) and len(capitals) * 3 > len(words) * 2

    def small(match: re.Match[str]) -> str:
        word = match[1]
        is_said = word in _SAID or word in _SOUNDS or _is_word(word, all_in_capitals, bool(match[2]), is_word)
        return match.group().lower() if is_said else match.group()

    return _CAPITALS.sub(small, sentence)


def _is_word(word: str, all_in_capitals: bool, apostrophe: bool, is_word: Callable[[str], bool]) -> bool:
    if all_in_capitals and word in _WORDS_IN_A_SENTENCE_OF_CAPITALS:
        return True
    if word in _SPELLED or not _has_vowel(word) or (word in _ALSO_WORDS and not apostrophe):
        return False
    if all_in_capitals or apostrophe:
        return True
    if len(word) == 2:
        return word in _TWO_LETTERS
    return is_word(word.lower()) or len(word) > 4


def _has_vowel(word: str) -> bool:
    return any(letter in "AEIOUY" for letter in word)
