"""Feature views: facts of other sources, joined to each row as they were known at its time.

`store` reads a view's source under its contract and keeps the features as a version of the lake.
`compute` runs the project's function, checks its result, and refuses a function that looks ahead.
`asof` finds an entity's features at a point in time, and `join` adds them to the rows of a dataset
version. `view_use` records a view in a model's bundle. Training joins by each row's time; serving
looks up the newest features.
"""
