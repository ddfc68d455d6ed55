"""What a poller's end may take, in seconds: one budget, of which every step has its part. Pure.

A pod has the time of its function and STOP_MARGIN to stop, then it is killed. Whatever the API server does, or does not
do, meanwhile: no step waits for it longer than its part, and what is left undone comes again with the next holder.
"""

from __future__ import annotations

STOP_MARGIN = 30
"""What a pod has, beside the time that its function may take."""
DRAINING = 20.0
"""From the stop until everything is cut short, beside the function's time: a call may still have to be connected (10),
what calls give up is handed over (5), and each step below is in it."""
LOOKING = 5.0
"""From the stop until a look at the leases that is under way is given up."""
LAST_CHECKPOINT = 10.0
"""For a shard's last checkpoint, once its calls are done."""
GIVING_BACK = 5.0
"""For giving a lease back, once its shard is done; all that are left after DRAINING are given back at once."""
FAREWELL = 2.0
"""For ending the heartbeat."""
