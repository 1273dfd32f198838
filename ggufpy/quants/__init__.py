"""Block formats: the table of types and their encoders."""
