"""Texts in many scripts, emoji of several code points, and random ones made of all of that."""

from __future__ import annotations

import random

SCRIPTS = {
    "Latin": "The quick brown fox – it's 12,345.67 € away!",
    "accents": "Ærøskøbing, naïve façade, Žižkov, ǆ ĳ ŉ",
    "combining": "e\u0301 a\u0308 o\u0302\u0323",
    "Greek": "Ξεσκεπάζω τὴν ψυχοφθόρα βδελυγμία",
    "Cyrillic": "Съешь же ещё этих мягких французских булок",
    "Arabic": "كيف حالك؟ ١٢٣ – اللُّغَة",
    "Hebrew": "שָׁלוֹם עוֹלָם, מה נשמע?",
    "Devanagari": "क्या आप इस चित्र को देख सकते हैं?",
    "Tamil": "வணக்கம் உலகம்",
    "Thai": "ภาพนี้มีแมวกี่ตัว",
    "Chinese": "这张图片里有什么？𠮷野家",
    "Japanese": "この写真には何が写っていますか。ｶﾀｶﾅ",
    "Korean": "이 사진에는 무엇이 있습니까? ㅋㅋ",
    "Amharic": "ሰላም ለዓለም",
    "Georgian": "გამარჯობა მსოფლიო",
    "emoji": "👍🏽 👩‍👩‍👧‍👦 🏳️‍🌈 🇫🇷 1️⃣ 🫠",
    "mathematics": "∀x∈ℝ: ⌈x⌉ = −⌊−x⌋, 𝔘𝔫𝔦, ½ ≠ ⅓",
    "code": "def f(x):\n\treturn {'a': [x ** 2]}  # ok\n",
    "white space": "one  two   three\n\n\nfour\t\tfive\u00a0six\u3000seven",
    "signs": "<|not a token|> [INST] </s> {{ x }} {% y %} \\n \"quoted\" 'so' `this`",
}

PIECES = [piece for text in SCRIPTS.values() for piece in text.split(" ")]
JOINTS = ["", " ", " ", " ", "\n", ", ", "  ", "\n\n", "; ", "\t"]


def random_text(draw: random.Random) -> str:
    """A text of up to twelve pieces, some of them single characters from anywhere in Unicode."""
    text = ""
    for _ in range(draw.randint(1, 12)):
        piece = draw.choice(PIECES)
        if draw.random() < 0.2:
            piece = "".join(map(_character, [draw] * draw.randint(1, 3)))
        text += piece + draw.choice(JOINTS)
    return text


def _character(draw: random.Random) -> str:
    first, last = draw.choice(
        [(0x20, 0x7E), (0xA1, 0x24F), (0x370, 0x1FFF), (0x3041, 0xD7A3), (0x1F300, 0x1FAFF)]
    )
    return chr(draw.randint(first, last))
