"""llama.cpp's options that `ggufpy run` has no use for: without an effect here, or refused with what helps.

Source: llama.cpp common/arg.cpp, of llama-cli and llama-completion.
"""

from __future__ import annotations

import argparse
from typing import Any

# By how many values they take. They are about devices, memory, how work is cut up, and logs: never the text.
_WITHOUT_VALUE = """
    -cmoe --cpu-moe -kvo --kv-offload -nkvo --no-kv-offload --op-offload --no-op-offload --repack -nr
    --no-repack --no-host -bs --backend-sampling --swa-full -kvu --kv-unified -no-kvu --no-kv-unified
    --no-context-shift --mmap -dio --direct-io -ndio --no-direct-io --warmup --no-warmup --jinja --offline
    --simple-io -v --verbose --log-verbose --log-disable --log-prefix --no-log-prefix --log-timestamps
    --no-log-timestamps --log-jsonl --no-log-jsonl
"""
_WITH_VALUE = """
    -ngl --gpu-layers --n-gpu-layers -sm --split-mode -ts --tensor-split -mg --main-gpu -dev --device
    -ot --override-tensor -ncmoe --n-cpu-moe -ncffn --n-cpu-ffn -fit --fit -fitt --fit-target
    -fitc --fit-ctx --numa -lzm --lazy-mode -tb --threads-batch -b --batch-size -ub --ubatch-size
    --poll --poll-batch -np --parallel -cram --cache-ram -ctxcp --ctx-checkpoints --swa-checkpoints
    -cms --checkpoint-min-step -dt --defrag-thold -lv --verbosity --log-verbosity --log-colors
"""
_WITH_OR_WITHOUT = "-fa --flash-attn -co --color"

_HELPS = {
    "name a model with -m, a text with -p": "",
    "download the model, and name the file with -m": """
        -hf -hfr --hf-repo -hff --hf-file -hft --hf-token -mu --model-url -dr --docker-repo
        --gpt-oss-20b-default --gpt-oss-120b-default --vision-gemma-4b-default --vision-gemma-12b-default
    """,
    "leave it out: the model computes each token itself": """
        -md --model-draft --spec-draft-model -hfd -hfrd --hf-repo-draft --spec-draft-hf --draft --draft-n
        --draft-max --draft-min --draft-n-min --draft-p-min --draft-p-split -ngld --gpu-layers-draft
        --n-gpu-layers-draft -devd --device-draft -td --threads-draft -tbd --threads-batch-draft
        -ctkd --cache-type-k-draft -ctvd --cache-type-v-draft --spec-type --spec-default
    """,
    "merge it into the checkpoint, and convert that": "--lora --lora-scaled",
    "change the file: ggufpy quantize --override-kv KEY=TYPE:VALUE IN OUT copy": """
        --override-kv --rope-scaling --rope-scale --rope-freq-base --rope-freq-scale --yarn-orig-ctx
        --yarn-ext-factor --yarn-attn-factor --yarn-beta-slow --yarn-beta-fast
    """,
    "ggufpy reads text only": """
        -mm --mmproj -mmu --mmproj-url --mmproj-auto --no-mmproj --no-mmproj-auto --image --audio --video
    """,
    "choose the CPUs with taskset": "-C --cpu-mask -Cr --cpu-range --cpu-strict",
    "start with nice": "--prio",
    "choose --no-mmap or --mlock": "-lm --load-mode",
    "redirect the output: > FILE": "-o --output --output-file",
    "redirect stderr: 2> FILE": "--log-file",
    "leave it out: in a terminal, ggufpy run chats": "-i --interactive -if --interactive-first",
    'begin and end such a message with """': "-mli --multiline-input",
    "raise -c; a chat forgets its oldest turns by itself": "--context-shift --keep",
    "name a template with --chat-template": "--no-jinja -cml --chatml",
    "put {% set NAME = VALUE %} in front of a --chat-template-file": """
        --chat-template-kwargs -rea --reasoning --reasoning-budget --reasoning-effort
    """,
    "ggufpy bench measures speed": "-pps -tgs -npp -ntg -npl",
    "ggufpy perplexity measures that": "--chunks --ppl-stride --perplexity",
}


class _NoEffect(argparse.Action):
    """Taken, and forgotten."""

    def __init__(self, option_strings: list[str], dest: str, **options: Any) -> None:
        super().__init__(option_strings, argparse.SUPPRESS, default=argparse.SUPPRESS, **options)

    def __call__(self, *_: Any) -> None: ...


def add_flags_without_effect(parser: argparse.ArgumentParser) -> None:
    """Let the parser take what changes nothing here; --help does not list it."""
    for names, how in (
        (_WITHOUT_VALUE, {"nargs": 0}),
        (_WITH_VALUE, {}),
        (_WITH_OR_WITHOUT, {"nargs": "?"}),
    ):
        options: dict[str, Any] = {"action": _NoEffect, "help": argparse.SUPPRESS, **how}
        for name in names.split():  # each alone, as errors name all names of an option
            parser.add_argument(name, **options)


def remedies() -> dict[str, str]:
    """What helps in place of an option, by its names; "" is a word that belongs to none."""
    return {name: help for help, names in _HELPS.items() for name in names.split() or [""]}
