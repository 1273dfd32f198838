"""What Python programs call: `Llama`, its requests and responses."""
