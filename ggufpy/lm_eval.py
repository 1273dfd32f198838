"""`python -m ggufpy.lm_eval --model ggufpy --model_args pretrained=FILE ...`: lm-evaluation-harness."""

from ggufpy.commands.console import start

if __name__ == "__main__":
    raise SystemExit(start("lm_eval"))
