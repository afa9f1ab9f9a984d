"""Always on: counters that grow for months at bounded cost, and the service that shows them."""
