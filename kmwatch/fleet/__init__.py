"""Many captures as one: where they are, how their tables become one, and what a survey of them says."""
