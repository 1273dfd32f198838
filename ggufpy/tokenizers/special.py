"""Tokens that mean something by their text: where generation ends, and the parts of fill-in-the-middle.

Converting writes the ids that these texts have; the runtime finds them again in files that do not name them.
Source: llama.cpp src/llama-vocab.cpp, llama_vocab::impl::load.
"""

from __future__ import annotations

# ggufpy's own key: ids at which generation ends, besides those for which GGUF has keys.
END_KEY = "ggufpy.end_token_ids"

# ggufpy's own keys: ids of added tokens that swallow the white space in front of them, or behind; that are
# found only where no letter or digit touches them; that are looked for in text which is normalized already.
LSTRIP_KEY, RSTRIP_KEY = "ggufpy.lstrip_token_ids", "ggufpy.rstrip_token_ids"
SINGLE_WORD_KEY, NORMALIZED_KEY = "ggufpy.single_word_token_ids", "ggufpy.normalized_token_ids"

# ggufpy's own key: ids of tokens that are ordinary in spite of their texts, which are those of special ones.
ORDINARY_KEY = "ggufpy.ordinary_token_ids"

# ggufpy's own key: ids of ordinary tokens that are found in a text by their own texts, as added ones are.
ADDED_KEY = "ggufpy.added_token_ids"

# ggufpy's own keys: parts of a tokenizer.json that GGUF has no name for, whether words that are tokens stay
# whole, whether neighbouring characters that are unknown are one token, and merges that scores do not say.
NORMALIZER_KEY, PRE_TOKENIZER_KEY = "ggufpy.tokenizer.normalizer", "ggufpy.tokenizer.pre_tokenizer"
IGNORE_MERGES_KEY = "ggufpy.tokenizer.ignore_merges"
MERGES_KEY = "ggufpy.tokenizer.merges"
FUSE_UNKNOWN_KEY = "ggufpy.tokenizer.fuse_unknown"

# Generation stops at each of these, wherever it is in a vocabulary.
END_OF_GENERATION = (
    "<|eot_id|>",
    "<|im_end|>",
    "<|end|>",
    "<|return|>",
    "<|call|>",
    "<|flush|>",
    "<|calls|>",
    "<end_of_turn>",
    "<|endoftext|>",
    "</s>",
    "<|eom_id|>",
    "<EOT>",
    "_<EOT>",
    "[EOT]",
    "[EOS]",
    "<|end_of_text|>",
    "<end_of_utterance>",
    "<eos>",
    "<turn|>",
    "<|tool_response>",
    "<\uff5cend\u2581of\u2581sentence\uff5c>",
    "[e~[",
)

# Part of the key tokenizer.ggml.<part>_token_id: texts that have this meaning; the first one present counts.
BY_TEXT: dict[str, tuple[str, ...]] = {
    "eot": (
        "<|eot_id|>",
        "<|im_end|>",
        "<|end|>",
        "<end_of_turn>",
        "<|endoftext|>",
        "<|end_of_text|>",
        "<EOT>",
        "_<EOT>",
        "[EOT]",
        "<\uff5cend\u2581of\u2581sentence\uff5c>",
        "<end_of_utterance>",
    ),
    "eom": ("<|eom_id|>",),
    "fim_pre": (
        "<|fim_prefix|>",
        "<fim-prefix>",
        "<fim_prefix>",
        "<\uff5cfim\u2581begin\uff5c>",
        "<PRE>",
        "\u2581<PRE>",
        "<|code_prefix|>",
        "<|prefix|>",
    ),
    "fim_suf": (
        "<|fim_suffix|>",
        "<fim-suffix>",
        "<fim_suffix>",
        "<\uff5cfim\u2581hole\uff5c>",
        "<SUF>",
        "\u2581<SUF>",
        "<|code_suffix|>",
        "<|suffix|>",
    ),
    "fim_mid": (
        "<|fim_middle|>",
        "<fim-middle>",
        "<fim_middle>",
        "<\uff5cfim\u2581end\uff5c>",
        "<MID>",
        "\u2581<MID>",
        "<|code_middle|>",
        "<|middle|>",
    ),
    "fim_pad": ("<|fim_pad|>", "<fim-pad>", "<fim_pad>", "<PAD>", "[PAD]"),
    "fim_rep": ("<|fim_repo|>", "<|repo_name|>", "<fim-repo>", "<REPO>", "<reponame>"),
    "fim_sep": ("<|file_sep|>",),
}

# Of those, the ones at which generation ends too.
ENDING_PARTS = ("eot", "eom", "fim_pad", "fim_rep", "fim_sep")

# The harmony format of gpt-oss: its parser needs to see these in the output.
ALWAYS_SHOWN = ("<|channel|>", "<|message|>", "<|start|>", "<|constrain|>")

# In the formats that have a token of both sets, PART_END ends a part of an answer, not the answer.
CALL_ENDS = {"<|call|>", "<|calls|>"}
ANSWER_ENDS = {"<|return|>", "<|flush|>"}
PART_END = "<|end|>"

# In the formats that have one of these, </s> is text.
S_IS_TEXT = {"<|tool_response>", "<|plamo:eos|>"}
S_END = "</s>"
