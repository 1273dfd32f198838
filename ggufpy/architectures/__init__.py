"""One file per architecture, named as GGUF's `general.architecture`."""
