"""Times of day in words, and what looks like one: ratios, scores and durations."""

from __future__ import annotations

import re

from tritone.text.reading.en.numbers import cardinal, number

_HALF = r"(?:\s?([AaPp])\.?\s?[Mm](?:\.|\b)(?!\w))"
_CLOCK = re.compile(rf"(?<![\w.:])(\d{{1,2}}):([0-5]\d)(?::([0-5]\d)(?:\.(\d+))?)?(?![\d:]|\.\d){_HALF}?(Z\b)?")
_HOUR = re.compile(rf"(?<![\w.:,/])(1[0-2]|0?[1-9]){_HALF}")
_OPENING_HOUR = re.compile(rf"(?<![\w.:,/$€£])(1[0-2]|[1-9])\s?[-–—]\s?(?=(?:1[0-2]|[1-9])(?::[0-5]\d)?{_HALF})")
_RANGE = re.compile(r"(?<=[\dmM.])\s?[-–—]\s?(?=\d{1,2}(?::[0-5]\d|\s?[AaPp]\.?[Mm]\b))")
_RATIO = re.compile(r"(?<![\w.:])(\d+):(\d+(?::\d+)*)(?![\w:]|\.\d)")
_OF_RATIOS = re.compile(r"\b(?:ratio|odds|aspect|scale|score|diluted|mix|mixed)\b[^.!?\n]{0,20}$", re.IGNORECASE)


def times_in_words(text: str) -> str:
    """Return the text with its times in words."""
    text = _RANGE.sub(lambda match: " to " if _between_times(match) else match.group(), text)
    text = _OPENING_HOUR.sub(r"\1 to ", text)
    text = _CLOCK.sub(_clock, text)
    text = _HOUR.sub(lambda match: f"{cardinal(match[1])} {match[2].upper()}M{_stop(match)}", text)
    return _RATIO.sub(lambda match: " to ".join(map(number, match.group().split(":"))), text)


def _between_times(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start() - 12) : match.start()]
    return bool(re.search(r"(?:\d:[0-5]\d|\d\s?[AaPp]\.?[Mm])\.?(?:\s?[AaPp]\.?[Mm]\.?)?$", before))


def _clock(match: re.Match[str]) -> str:
    hour, minute, second, part, half, zulu = match.groups()
    if int(hour) > 24 or _OF_RATIOS.search(match.string[: match.start()]):
        return match.group()
    hours = cardinal(hour)
    if minute != "00":
        said = f"{hours} {'oh ' if minute[0] == '0' else ''}{cardinal(minute)}"
    elif second and second != "00":
        said = f"{hours} hundred"
    elif half:
        said = hours
    else:
        said = f"{hours} o'clock" if int(hour) <= 12 else f"{hours} hundred"
    if second and (second != "00" or part):
        count = number(f"{int(second)}.{part}" if part else str(int(second)))
        said += f" and {count} second{'' if count == 'one' else 's'}"
    return said + (f" {half.upper()}M{_stop(match)}" if half else "") + (" UTC" if zulu else "")


def _stop(match: re.Match[str]) -> str:
    """Return the full stop of "p.m." where it ends a sentence, and the space that it swallowed otherwise."""
    after = match.string[match.end() :]
    ends = match.group().endswith(".") and (not after.strip() or re.match(r"\s+[\"'(]?[A-Z]", after))
    return "." if ends else ""
