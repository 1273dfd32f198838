"""Texts on which tokenizers are compared: prose, code, numbers, many scripts and white spaces."""

from __future__ import annotations

SAMPLES = (
    "Hello, world!",
    " leading space",
    "trailing space ",
    "two  spaces, three   spaces,    four\tand\t\ttabs",
    "one\nline\n\nand\n\n\nmore \n with \n  spaces\r\nand\r\n\r\nreturns \r",
    "I'm sure they'll say it's what we've done; don't you'd, HE'S, I'M, WE'LL, can't 'quote'",
    "1 12 123 1234 12345 1234567890 3.14159 1,000,000 -42 0x1F 1e-9 50% $9.99",
    "camelCase PascalCase HTTPServer snake_case kebab-case UPPER lower MiXeD",
    "def f(x: int) -> str:\n    return f\"{x!r:>10}\"  # comment\n\n\nif __name__ == '__main__':\n\tf(1)\n",
    '#include <stdio.h>\nint main(void) { printf("%d\\n", a[i] ^ ~b | c & d); /* ok */ return 0; }',
    '{"key": [1, 2.5, null, true], "path": "C:\\\\dir\\\\file", "url": "https://example.org/?q=a&b=c#d"}',
    "<p class='x'>&amp;&nbsp;</p> [link](http://a.b) **bold** `code` ~~x~~ | a | b |",
    "!!! ??? ... --- ___ === +++ *** /// \\\\\\ (((a))) [[b]] {{c}} <<d>> @@ ## $$ %% ^^ && ``",
    "\u00c0\u00c9\u00ee\u00f5\u00fc \u00df \u00f1 \u00e7 \u0152uvre na\u00efve fa\u00e7ade \u0130stanbul",
    "e\u0301 n\u0303 u\u0308 a\u030a\u0323 combining, \u00e9 \u00f1 composed",
    "\u041f\u0440\u0438\u0432\u0435\u0442, \u043c\u0438\u0440! "
    "\u0395\u03bb\u03bb\u03b7\u03bd\u03b9\u03ba\u03ac \u03a3\u0391\u03a3",
    "\u4f60\u597d\uff0c\u4e16\u754c\uff01"
    "\u65e5\u672c\u8a9e\u306e\u30c6\u30ad\u30b9\u30c8\u3002\ud55c\uad6d\uc5b4 \ubb38\uc7a5",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645"
    " \u05e9\u05dc\u05d5\u05dd \u0661\u0662\u0663",
    "\u0928\u092e\u0938\u094d\u0924\u0947"
    " \u0e2a\u0e27\u0e31\u0e2a\u0e14\u0e35 \u1200\u1208\u1210 \u10d0\u10d1\u10d2",
    "\U0001f999 \U0001f468\u200d\U0001f469\u200d\U0001f467"
    " \U0001f1e9\U0001f1ea \U0001f44d\U0001f3fd \u2764\ufe0f \U0001d54f\U00020000",
    "\u00bd \u00b2 \u2167 \u2460 \ufb01 \u2122 \u2026 \u2014 \u2018q\u2019 \u201cq\u201d \u20ac \u00a9",
    "\u00a0nbsp\u2003em\u3000wide\u200bzero\ufeffbom\u0085nel\u2028line\x00nul\x7fdel",
    "a" * 100 + " " * 50 + "\n" * 20 + "=" * 80 + "ab" * 60,
)
