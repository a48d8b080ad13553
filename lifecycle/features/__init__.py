"""Feature views: facts of other sources, joined to each row as they were known at its time.

`facts` reads a view's source under its contract, `compute` runs the project's function on them and
checks what it returns, and `lookahead` refuses a function that looks ahead. `table` keeps the
features as a version of the lake, `asof` finds what was known of an entity at a time, `join` adds
it to the rows of a dataset version; `use` is what a model's bundle says of it, and `trial` tries it
all without writing. Training joins by each row's time; serving looks up by the time it is.
"""
