"""The languages of Whisper's tokens: codes and names, in the order in which the vocabulary has them."""

from typing import Any

from maquette.errors import InputError, did_you_mean

_TABLE = """
en english, zh chinese, de german, es spanish, ru russian, ko korean, fr french, ja japanese, pt portuguese,
tr turkish, pl polish, ca catalan, nl dutch, ar arabic, sv swedish, it italian, id indonesian, hi hindi,
fi finnish, vi vietnamese, he hebrew, uk ukrainian, el greek, ms malay, cs czech, ro romanian, da danish,
hu hungarian, ta tamil, no norwegian, th thai, ur urdu, hr croatian, bg bulgarian, lt lithuanian, la latin,
mi maori, ml malayalam, cy welsh, sk slovak, te telugu, fa persian, lv latvian, bn bengali, sr serbian,
az azerbaijani, sl slovenian, kn kannada, et estonian, mk macedonian, br breton, eu basque, is icelandic,
hy armenian, ne nepali, mn mongolian, bs bosnian, kk kazakh, sq albanian, sw swahili, gl galician, mr marathi,
pa punjabi, si sinhala, km khmer, sn shona, yo yoruba, so somali, af afrikaans, oc occitan, ka georgian,
be belarusian, tg tajik, sd sindhi, gu gujarati, am amharic, yi yiddish, lo lao, uz uzbek, fo faroese,
ht haitian creole, ps pashto, tk turkmen, nn nynorsk, mt maltese, sa sanskrit, lb luxembourgish, my myanmar,
bo tibetan, tl tagalog, mg malagasy, as assamese, tt tatar, haw hawaiian, ln lingala, ha hausa, ba bashkir,
jw javanese, su sundanese, yue cantonese
"""
LANGUAGES = dict(entry.strip().split(" ", 1) for entry in _TABLE.split(","))
_OTHER_NAMES = {"burmese": "my", "valencian": "ca", "flemish": "nl", "haitian": "ht", "letzeburgesch": "lb"}
_OTHER_NAMES |= {"pushto": "ps", "panjabi": "pa", "moldavian": "ro", "moldovan": "ro", "sinhalese": "si"}
_OTHER_NAMES |= {"castilian": "es", "mandarin": "zh"}
CODES = {name: code for code, name in LANGUAGES.items()} | _OTHER_NAMES
TASKS = ("translate", "transcribe")


def language_code(language: Any) -> str:
    """Give the code of a language: "german", "de" and "<|de|>" are "de".

    Raises:
        InputError: Whisper knows none of that name.
    """
    name = str(language).lower()
    code = CODES.get(name, name.removeprefix("<|").removesuffix("|>"))
    if code not in LANGUAGES:
        near = did_you_mean(name, [*CODES, *LANGUAGES])
        raise InputError(f"language={language!r} is none of the {len(LANGUAGES)} that Whisper has tokens for.{near}")
    return code


def check_task(task: Any) -> str:
    """Give a task back, unless there is none of that name.

    Raises:
        InputError: it is neither of the two.
    """
    if task not in TASKS:
        raise InputError(f"task={task!r}: Whisper has two, {' and '.join(map(repr, TASKS))}.")
    return str(task)
