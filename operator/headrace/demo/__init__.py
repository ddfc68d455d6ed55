"""`headrace demo`: `headrace run` with everything embedded, from a stream to a failure record.

In reading order: `show.py` puts it together; `emulator.py` keeps ministack as a process, in the environment that
`isolation.py` makes; `orders.py` writes the stream, `function.py` handles it; `board.py` folds the data plane's events
into what is worth telling, `screen.py` tells it; `account.py` counts at the end, `summary.py` says what came out.
"""
