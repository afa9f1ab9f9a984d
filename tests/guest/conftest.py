"""What stands in inside/ runs in a guest only."""

import os

collect_ignore = [] if os.environ.get("KMWATCH_GUEST") else ["inside"]
