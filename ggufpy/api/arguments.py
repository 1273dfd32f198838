"""Arguments as llama-cpp-python takes them: by position too, and those that mean nothing here."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from functools import wraps
from numbers import Integral
from typing import Any, ParamSpec, TypeVar

from ggufpy.embedding.embedder import POOLINGS
from ggufpy.generate.picking import Sampling

# Arguments of llama-cpp-python that ggufpy does not have, with the values that ask for nothing: None for any.
_Absent = Mapping[str, tuple[Any, ...] | None]

_NOTHING_ON_A_CPU = (
    "split_mode main_gpu tensor_split offload_kqv op_offload numa no_perf n_ubatch n_threads_batch "
    "flash_attn swa_full f16_kv n_parts low_vram mul_mat_q device"
)
OF_THE_MODEL: _Absent = dict.fromkeys(_NOTHING_ON_A_CPU.split()) | {
    "rope_scaling_type": (None, -1),
    "rope_freq_base": (None, 0),
    "rope_freq_scale": (None, 0, 1),
    "yarn_ext_factor": (None, -1),
    "yarn_attn_factor": (None, -1, 1),
    "yarn_beta_fast": (None, -1, 32),
    "yarn_beta_slow": (None, -1, 1),
    "yarn_orig_ctx": (None, 0),
    "lora_base": (None, ""),
    "lora_scale": None,
    "lora_path": (None, ""),
    "kv_overrides": (None, {}),
    "chat_handler": (None,),
    "draft_model": (None,),
    "tokenizer": (None,),
    "spm_infill": (None, False),
}
_BYTES = (bytes, bytearray, memoryview)

_OF_CALLS: _Absent = {
    "tfs_z": (None, 1),
    "mirostat_mode": (None, 0),
    "mirostat_tau": None,
    "mirostat_eta": None,
    "penalize_nl": None,  # llama.cpp no longer reads it
    "grammar": (None,),
    "functions": (None, []),
    "function_call": (None, "none", "auto"),
    "tools": (None, []),
    "tool_choice": (None, "none", "auto"),
    "response_format": (None, {"type": "text"}),
}

P = ParamSpec("P")
R = TypeVar("R")


def by_position(order: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Let a method that takes `**sampling: Unpack[Sampling]` have its arguments by position too.

    order: their names, behind `self`. The method gets all by name. A name that it does not take is a
    TypeError at once, also where it is a generator; llama-cpp-python's others may have neutral values.
    """
    names = order.split()

    def decorate(method: Callable[P, R]) -> Callable[P, R]:
        known = inspect.signature(method).parameters.keys() | Sampling.__optional_keys__
        title = method.__name__
        assert known.issuperset(names), title

        @wraps(method)
        def call(self: Any, *values: Any, **named: Any) -> Any:
            if len(values) > len(names):
                raise TypeError(f"{title}() takes {len(names)} arguments by position, not {len(values)}")
            for name, value in zip(names, values, strict=False):
                if name in named:
                    raise TypeError(f"{title}() got multiple values for argument '{name}'")
                named[name] = value
            others = {name: named.pop(name) for name in [*named] if name not in known}
            check_absent(title, others, _OF_CALLS)
            return method(self, **named)

        return call  # type: ignore[return-value] # checkers see the names only

    return decorate


def check_absent(title: str, arguments: Mapping[str, Any], absent: _Absent) -> None:
    """Let arguments pass that ask for nothing.

    Raises TypeError for unknown names, ValueError for what ggufpy cannot do.
    """
    for name, value in arguments.items():
        if name not in absent:
            raise TypeError(f"{title}() got an unexpected keyword argument '{name}'")
        neutral = absent[name]
        if neutral is not None and value not in neutral:
            raise ValueError(f"{title}({name}={value!r}): ggufpy cannot do that; leave it out")


def check_integers(title: str, arguments: Mapping[str, Any]) -> None:
    """Raises TypeError for arguments that are neither integers nor None."""
    for name, value in arguments.items():
        if value is not None and not isinstance(value, Integral):
            raise TypeError(f"{title}({name}={value!r}): must be an integer")


def pooling_of(number: int | None) -> int | None:
    """llama.cpp's number of a way of pooling; None for -1, the model's own. Raises ValueError for others."""
    if number is None or number == -1:
        return None
    if not 0 <= number < len(POOLINGS):
        known = ", ".join(f"{i} ({name})" for i, name in enumerate(POOLINGS))
        raise ValueError(f"pooling_type={number}: must be -1 (the model's own) or one of {known}")
    return int(number)


def causality_of(number: int | None) -> bool | None:
    """llama.cpp's number of an attention; None for -1, the model's own. Raises ValueError for others."""
    if number is None or number == -1:
        return None
    if number not in (0, 1):
        raise ValueError(
            f"attention_type={number}: must be -1 (the model's own), 0 (causal) or 1 (not causal)"
        )
    return number == 0


def mapping_of(title: str, value: Any) -> Mapping[Any, Any]:
    """A mapping; an empty one for None. Raises TypeError for what is none."""
    if value is not None and not isinstance(value, Mapping):
        raise TypeError(f"{title}={value!r:.60}: must be a dict")
    return value or {}


def prompts_of(prompt: Any, title: str = "prompt") -> list[str | Sequence[int]]:
    """One prompt, or each of several. Raises TypeError for what is neither text nor tokens."""
    several = isinstance(prompt, Sequence) and not isinstance(prompt, (str, *_BYTES)) and len(prompt) > 0
    prompts = list(prompt) if several and not isinstance(prompt[0], Integral) else [prompt]
    for each in prompts:
        if isinstance(each, str):
            continue
        if isinstance(each, _BYTES):
            raise TypeError(f"the {title} is bytes: pass text ({title}.decode()), or a list of tokens")
        if not isinstance(each, Sequence) or not all(isinstance(token, Integral) for token in each):
            raise TypeError(
                f"the {title} is {each!r:.60}: must be text, or a list of tokens, or a list of these"
            )
    return prompts


def stops_of(stop: Any) -> list[str]:
    """The stop texts. Raises TypeError for what is neither a text nor texts."""
    stops = [stop] if isinstance(stop, str) else list(stop) if isinstance(stop, list | tuple) else stop or []
    if not isinstance(stops, list) or not all(isinstance(each, str) for each in stops):
        raise TypeError(f"stop={stop!r:.60}: must be a text, or a list of texts")
    return stops
