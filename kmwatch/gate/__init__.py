"""The gate: whether findings and numbers keep to a budget, and what changed between two runs. Nothing here prints."""
