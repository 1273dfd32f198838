"""Which tensor gets which type, and what that choice is made from."""
