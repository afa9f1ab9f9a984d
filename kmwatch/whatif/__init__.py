"""What kmalloc's requests would take otherwise: from other size classes, or from caches of their own."""
