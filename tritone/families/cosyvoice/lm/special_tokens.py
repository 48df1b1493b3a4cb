"""Special tokens of the published Qwen2-based models, in the order of their ids and embedding rows."""

from __future__ import annotations

END_OF_TEXT = "<|endoftext|>"
END_OF_PROMPT = "<|endofprompt|>"
BASE_SIZE = 151646
"""Entries of the Qwen2 tokenizer that the published checkpoints extend, and the id of their first own token."""

V2: tuple[str, ...] = (
    *("<|im_start|>", "<|im_end|>", END_OF_PROMPT),
    *("[breath]", "<strong>", "</strong>", "[noise]", "[laughter]", "[cough]", "[clucking]", "[accent]"),
    *("[quick_breath]", "<laughter>", "</laughter>", "[hissing]", "[sigh]", "[vocalized-noise]", "[lipsmack]", "[mn]"),
)
"""The first two are in the Qwen2 tokenizer already, the rest follow it."""

_ARPABET = (
    "AA* AE* AH* AO* AW* AY* B CH D DH EH* ER* EY* F G HH IH* IY* JH K L M N NG "
    "OW* OY* P R S SH T TH UH* UW* V W Y Z ZH"
)
_PINYIN = (
    "a ai an ang ao b c ch d e ei en eng f g h i ian in ing iu "
    "ià iàn iàng iào iá ián iáng iáo iè ié iòng ióng iù iú iā iān iāng iāo iē iě iōng iū iǎ iǎn iǎng iǎo iǒng iǔ "
    "j k l m n o ong ou p q r s sh t u uang ue un uo "
    "uà uài uàn uàng uá uái uán uáng uè ué uì uí uò uó uā uāi uān uāng uē uě uī uō uǎ uǎi uǎn uǎng uǐ uǒ vè "
    "w x y z zh à ài àn àng ào á ái án áng áo è èi èn èng èr é éi én éng ér ì ìn ìng í ín íng ò òng òu ó óng óu "
    "ù ùn ú ún ā āi ān āng āo ē ēi ēn ēng ě ěi ěn ěng ěr ī īn īng ō ōng ōu ū ūn ǎ ǎi ǎn ǎng ǎo ǐ ǐn ǐng ǒ ǒng ǒu "
    "ǔ ǔn ǘ ǚ ǜ"
)

V3: tuple[str, ...] = (
    *V2,
    "<|endofsystem|>",
    *(
        f"[{phone.rstrip('*')}{stress}]"
        for phone in _ARPABET.split()
        for stress in (("", "0", "1", "2") if phone.endswith("*") else ("",))
    ),
    *(f"[{sound}]" for sound in _PINYIN.split()),
)
"""The tokens of v2, ARPAbet phones (vowels also with stress), and pinyin initials and finals with tone."""
