"""What the running kernel is: BTF, symbols, GFP flags, zones, size classes, privileges."""
