"""Messages to prompts and back: templates and conversations."""
