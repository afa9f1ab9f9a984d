"""What a person or a program sees: build plain data, then render it."""
