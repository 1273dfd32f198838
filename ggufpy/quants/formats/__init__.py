"""Block formats: one family of encoders per file."""
