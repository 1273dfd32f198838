"""What a person starts: each command parses arguments and calls one library function."""
