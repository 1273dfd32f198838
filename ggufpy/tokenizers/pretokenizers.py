"""How byte-level BPE cuts text into words before it merges: the programs behind `tokenizer.ggml.pre`.

A program is a sequence of regular expressions; each one cuts the pieces that the ones before it left into its
matches and what lies between them. They are written as the checkpoints' own tokenizer.json writes them, for
the Oniguruma engine of `tokenizers`, which is where llama.cpp only comes near them. Converting looks a
checkpoint's program up in the same table. Names, groups and flags: llama.cpp src/llama-vocab.cpp,
llm_tokenizer_bpe and llama_vocab::impl::load.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

_CONTRACTIONS = "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_SPACES = r"\s+(?!\S)|\s+"
_LINES = r"\s*[\r\n]+"
_NO_CASE = r"\p{Lm}\p{Lo}\p{M}"
_UPPER, _LOWER = r"\p{Lu}\p{Lt}" + _NO_CASE, r"\p{Ll}" + _NO_CASE


def _cl100k(
    digits: str, letters: str = r"\p{L}", marks: str = "", contractions: str = _CONTRACTIONS + "|"
) -> str:
    """The shape that OpenAI's cl100k_base gave to most pre-tokenizers since."""
    words = rf"[^\r\n\p{{L}}\p{{N}}]?{letters}+"
    others = rf" ?[^\s\p{{L}}{marks}\p{{N}}]+[\r\n]*"
    return f"{contractions}{words}|{digits}|{others}|{_LINES}|{_SPACES}"


def _o200k(
    digits: str, contractions: str, prefix: str = r"[^\r\n\p{L}\p{N}]?", symbols: str = r"[\r\n/]*"
) -> str:
    """The shape of o200k_base, which also cuts where lower case turns into upper case."""
    words = f"{prefix}[{_UPPER}]*[{_LOWER}]+{contractions}|{prefix}[{_UPPER}]+[{_LOWER}]*{contractions}"
    return rf"{words}|{digits}| ?[^\s\p{{L}}\p{{N}}]+{symbols}|{_LINES}|{_SPACES}"


GPT2 = rf"'s|'t|'re|'ve|'m|'ll|'d| ?\p{{L}}+| ?\p{{N}}+| ?[^\s\p{{L}}\p{{N}}]+|{_SPACES}"
LLAMA3 = _cl100k(r"\p{N}{1,3}")
QWEN2 = _cl100k(r"\p{N}")
QWEN35 = _cl100k(r"\p{N}", letters=r"[\p{L}\p{M}]", marks=r"\p{M}")
GPT4O = _o200k(r"\p{N}{1,3}", _CONTRACTIONS + "?")
TEKKEN = _o200k(r"\p{N}", "")

# What `tokenizers` calls punctuation: that of Unicode, and the ASCII symbols.
PUNCTUATION = r"[\p{P}\$\+<=>\^~\|`]+"
DIGIT = r"\p{N}"
DIGITS = r"\p{N}+"

_ASCII_PUNCTUATION = r"""[!"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~]"""
_CJK = "[\u4e00-\u9fa5\u3040-\u309f\u30a0-\u30ff]+"
_CJK_HANGUL = "[\u4e00-\u9fa5\u0800-\u4e00\uac00-\ud7ff]+"


def _deepseek3(symbol_end: str = r"[\r\n]*", lines: str = _LINES) -> str:
    words = rf"{_ASCII_PUNCTUATION}[A-Za-z]+|[^\r\n\p{{L}}\p{{P}}\p{{S}}]?[\p{{L}}\p{{M}}]+"
    return rf"{words}| ?[\p{{P}}\p{{S}}]+{symbol_end}|{lines}|{_SPACES}"


# Letters that have a case, as DeepSeek's first tokenizer lists them.
_CASED = (
    "A-Za-z\u00b5\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u01ba\u01bc-\u01bf\u01c4-\u0293\u0295-\u02af\u0370-\u0373\u0376"
    "\u0377\u037b-\u037d\u037f\u0386\u0388-\u038a\u038c\u038e-\u03a1\u03a3-\u03f5\u03f7-\u0481\u048a-\u052f"
    "\u0531-\u0556\u10a0-\u10c5\u13a0-\u13f5\u13f8-\u13fd\u1c90-\u1cba\u1cbd-\u1cbf\u1d00-\u1d2b\u1d6b-\u1d77"
    "\u1d79-\u1d9a\u1e00-\u1f15\u1f18-\u1f1d\u1f20-\u1f45\u1f48-\u1f4d\u1f50-\u1f57\u1f59\u1f5b\u1f5d\u1f5f-\u1f7d"
    "\u1f80-\u1fb4\u1fb6-\u1fbc\u1fbe\u1fc2-\u1fc4\u1fc6-\u1fcc\u1fd0-\u1fd3\u1fd6-\u1fdb\u1fe0-\u1fec\u1ff2-\u1ff4"
    "\u1ff6-\u1ffc\u2102\u2107\u210a-\u2113\u2115\u2119-\u211d\u2124\u2126\u2128\u212a-\u212d\u212f-\u2134\u2139"
    "\u213c-\u213f\u2145-\u2149\u214e\u2183\u2184\u2c00-\u2c7b\u2c7e-\u2ce4\u2ceb-\u2cee\u2cf2\u2cf3\ua640-\ua66d"
    "\ua680-\ua69b\ua722-\ua76f\ua771-\ua787\ua78b-\ua78e\uab70-\uabbf\ufb00-\ufb06\ufb13-\ufb17\uff21-\uff3a"
    "\uff41-\uff5a\U00010400-\U0001044f\U000104b0-\U000104d3\U000104d8-\U000104fb\U00010c80-\U00010cb2"
    "\U00010cc0-\U00010cf2\U000118a0-\U000118df\U0001e900-\U0001e943"
)
_BLOOM = " ?[^(\\s|.,!?\u2026\u3002\uff0c\u3001\u0964\u06d4\u060c)]+"
_YOUTU_CJK = (
    "[\uac00-\ud7a3\u3131-\u318e]+|[\uff01\u2026\u201c\u201d\u2018\u2019\u2014\uff1a\uff1b\uff0c\u3001-\u303f"
    "\ufe30-\ufe4f]+|[\u3105-\u312f]+|" + _CJK
)
_AFMOE_CJK = (
    "[\u4e00-\u9fff\u3400-\u4dbf\uf900-\ufaff\u3040-\u309f\u30a0-\u30ff\uff65-\uff9f\u2f00-\u2fdf\u0e40-\u0e7f"
    "\u0e80-\u0eff\u1780-\u17ff\u1000-\u109f\uaa60-\uaa7f\ua9e0-\ua9ff\uac00-\ud7af\u1100-\u11ff]+"
)
_JAIS2_SPACES = (
    "|".join(rf"\s{{{n}}}(?!\S)" for n in (512, 256, 128, 64, 32, 16, 8, 4)) + r"|\s{1,2}(?!\S)|\s{1}"
)
_NO_HAN = r"&&[^\p{Han}]"
_KIMI_UPPER = rf"[^\r\n\p{{L}}\p{{N}}]?[{_UPPER}{_NO_HAN}]"
_KIMI_LOWER = rf"[{_LOWER}{_NO_HAN}]"


def _threes(digit: str) -> str:
    """Within a piece of digits only: groups of three, counted from its end."""
    first = rf"\A(?={digit}++\z)(?:{digit}{{1,2}}(?=(?:{digit}{{3}})*+\z)|{digit}{{3}})"
    return rf"{first}|(?!\A)\G{digit}{{3}}"


def _to_small(also: str = "") -> tuple[str, str]:
    """Letters to the last that is no capital: as written, and without giving capitals back one by one."""
    written = f"[{_UPPER}{also}]*[{_LOWER}{also}]+"
    small = rf"[{_UPPER}{also}]*+\p{{Ll}}[{_LOWER}{also}]*+"
    return written, rf"(?:{small}|(?:[\p{{Lu}}\p{{Lt}}]*+[{_NO_CASE}{also}]++)++)"


# These look to the end of a number, or of spaces, from each of its characters. What cuts alike, in time that
# grows with it.
_TINY_AYA = r"\d{1,3}(?=(?:\d{3})*\b)"
_SUPERBPE = r"(?=(\d{3})+(?!\d))"
_AFMOE = r"\p{N}{1,3}(?=(?:\p{N}{3})*(?!\p{N}))"
_LAST_SPACES = r"\s+$"
_THREES = r"(?:\d{3})++(?!\d)"  # of a number, those that are cut off
_LINEAR = {
    _TINY_AYA: (r"(?<!\d)\d++\b", _threes(r"\d")),
    # Numbers may have fractions in them: threes with all behind them up to the next ones, then one by one.
    _SUPERBPE: (rf"{_THREES}(?:[\p{{N}}&&[^\d]]++|(?!{_THREES})\d)*+", r"\G\d{3}(?=\d)"),
    _AFMOE: (DIGITS, _threes(r"\p{N}")),
    _LAST_SPACES: (r"(?<!\s)\s++$",),
}

# These give back what they took, one by one, and Oniguruma panics after ten million of one match.
_EXAONE_MOE = r"(?:\p{L}\p{M}*(?: \p{L}\p{M}*)*)+"
_WITHOUT_RETRIES = (
    (_LINES, r"(?:[^\S\r\n]*+[\r\n]++)++"),
    (_EXAONE_MOE, r"\p{L}(?:[\p{L}\p{M}]++| \p{L})*+"),
    _to_small(),
    _to_small(_NO_HAN),
)


@dataclass(frozen=True, slots=True)
class PreTokenizer:
    """One program, and what llama.cpp ties to its name.

    ignore_merges: a word that is a token stays whole, whatever the merges say. add_bos: a BOS token starts a
    text if the file does not say otherwise. default_bos: token 11 is the BOS token if the file names none.
    """

    regexes: tuple[str, ...]
    ignore_merges: bool = False
    add_bos: bool = False
    default_bos: bool = True

    @property
    def steps(self) -> tuple[str, ...]:
        """What to run: it cuts as `regexes` do, in time that grows with the text."""
        return tuple(step for regex in self.regexes for step in _linear(regex))


def _linear(regex: str) -> Sequence[str]:
    for written, run in _WITHOUT_RETRIES:
        regex = regex.replace(written, run)
    return _LINEAR.get(regex, (regex,))


# Converting takes the first name that fits, so the names that say the least stand first.
_TABLE: tuple[tuple[str, PreTokenizer], ...] = (
    (
        "gpt-2 phi-2 jina-es jina-de gigachat jina-v2-es jina-v2-de a.x-4.0 mellum modern-bert exaone4 mpt"
        " olmo jais trillion granite-docling jina-v1-en jina-v2-code roberta-bpe",
        PreTokenizer((GPT2,)),
    ),
    (
        "llama-bpe llama3 llama-v3 falcon3 falcon-h1 pixtral midm-2.0 lfm2 jina-v5-nano",
        PreTokenizer((LLAMA3,), ignore_merges=True, add_bos=True),
    ),
    ("dbrx smaug-bpe", PreTokenizer((LLAMA3,))),
    ("glm4 glm5", PreTokenizer((LLAMA3,), ignore_merges=True, default_bos=False)),
    ("chatglm-bpe", PreTokenizer((LLAMA3,), default_bos=False)),
    (
        "qwen2 deepseek-r1-qwen kormo f2llmv2 megrez stablelm2 hunyuan solar-open grok-2 bailingmoe"
        " bailingmoe2 llada-moe",
        PreTokenizer((QWEN2,)),
    ),
    ("qwen35", PreTokenizer((QWEN35,))),
    ("k2-horizon", PreTokenizer((_cl100k(r"\p{N}{1,3}", letters="[\\p{L}\\p{M}\u200c\u200d]"),))),
    ("smollm starcoder refact command-r codeshell exaone minerva-7b mellum2", PreTokenizer((DIGIT, GPT2))),
    (
        "deepseek-llm",
        PreTokenizer(
            (
                r"[\r\n]",
                rf"\s?[{_CASED}]+",
                "\\s?[!-/:-~\uff01-\uff0f\uff1a-\uff5e\u2018-\u201f\u3000-\u3002]+",
                _LAST_SPACES,
                _CJK_HANGUL,
                DIGIT,
            )
        ),
    ),
    ("deepseek-coder", PreTokenizer((r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _CJK_HANGUL, DIGIT))),
    ("deepseek-v3 hunyuan-dense joyai-llm hy_v4", PreTokenizer((r"\p{N}{1,3}", _CJK, _deepseek3()))),
    ("spark2_5", PreTokenizer((r"\p{N}{1,3}", _CJK, _deepseek3("", r"[\r\n]"), DIGIT))),
    ("falcon", PreTokenizer((PUNCTUATION, GPT2, "[0-9][0-9][0-9]"))),
    ("tekken", PreTokenizer((TEKKEN,), ignore_merges=True, add_bos=True)),
    ("gpt-4o llama4 kanana2 talkie minimax-m2", PreTokenizer((GPT4O,))),
    ("granite-embed-multi-97m", PreTokenizer((GPT4O,), ignore_merges=True)),
    ("tiny_aya cohere2moe", PreTokenizer((_TINY_AYA, GPT4O))),
    (
        "youtu",
        PreTokenizer((_YOUTU_CJK, _o200k(DIGIT, _CONTRACTIONS + "?")), ignore_merges=True),
    ),
    ("poro-chat bloom gpt3-finnish", PreTokenizer((_BLOOM,))),
    ("viking", PreTokenizer((_BLOOM, DIGIT))),
    ("seed-coder", PreTokenizer((QWEN2.replace(r" ?[^\s\p{L}\p{N}]+[\r\n]*", r" ?[^\s\p{L}\p{N}\r\n]+"),))),
    ("ufakzeka", PreTokenizer((_cl100k(DIGIT, contractions=""),))),
    ("minicpm5", PreTokenizer((r"\p{N}{1,3}", _cl100k(DIGITS)), ignore_merges=True)),
    ("laguna", PreTokenizer((r"[^\n]+|[\n]+", QWEN2))),
    (
        "exaone-moe",
        PreTokenizer((QWEN2.replace(r"\p{L}+", _EXAONE_MOE, 1).replace(r"]+[\r\n]*", r"]+[\r\n/]?"),)),
    ),
    ("jais-2", PreTokenizer((LLAMA3.replace(_SPACES, _JAIS2_SPACES),))),
    ("superbpe", PreTokenizer((DIGITS, _SUPERBPE))),
    (
        "afmoe",
        PreTokenizer((_AFMOE, _AFMOE_CJK, _deepseek3())),
    ),
    (
        "chameleon",
        PreTokenizer(
            (
                "<sentinel:[0-9]+>",
                "(IMGIMG)((A|B|C|D|E|F|G|H|I){1,4})Z",
                r"([\t\n]|    |  )",
                DIGIT,
                r"[\p{P}!-/:-@\[-`{-~]",
                GPT2,
            ),
            add_bos=True,
        ),
    ),
    (
        "kimi-k2",
        PreTokenizer(
            (
                rf"[\p{{Han}}]+|{_KIMI_UPPER}*{_KIMI_LOWER}+{_CONTRACTIONS}?|{_KIMI_UPPER}+{_KIMI_LOWER}*{_CONTRACTIONS}?"
                rf"|\p{{N}}{{1,3}}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|{_LINES}|{_SPACES}",
            )
        ),
    ),
    ("default", PreTokenizer((PUNCTUATION.replace("`", ""), GPT2, DIGITS, "[0-9][0-9][0-9]"))),
)

PRE_TOKENIZERS: dict[str, PreTokenizer] = {
    name: program for names, program in _TABLE for name in names.split()
}

# Ways to write the same expression: each pair means the same inside every program above.
_SPELLINGS = (
    ("\r", r"\r"),
    ("\n", r"\n"),
    ("'(?i:[sdmt]|ll|ve|re)", _CONTRACTIONS),
    ("(?:'[sS]|'[tT]|'[rR][eE]|'[vV][eE]|'[mM]|'[lL][lL]|'[dD])", _CONTRACTIONS),
    ("?+", "?"),
    ("++", "+"),
    ("*+", "*"),
    (r"\p{N}{1}|", r"\p{N}|"),
    (r"|\s*[\r\n]|", rf"|{_LINES}|"),
)


def names_of(regexes: Sequence[str]) -> Iterator[str]:
    """The names of a program, whichever way its expressions are spelt; the usual one first."""
    wanted = _canonical(regexes)
    return (name for name, program in PRE_TOKENIZERS.items() if _canonical(program.regexes) == wanted)


def _canonical(regexes: Sequence[str]) -> list[str]:
    result = []
    for regex in regexes:
        for spelling, usual in _SPELLINGS:
            regex = regex.replace(spelling, usual)
        result.append(regex)
    return result
