"""The lake: versioned Delta tables; a version is written whole, in one commit, or not at all.

`table` knows what versions there are, `manifest` the bytes of their files, `read` opens exactly one
of them, `write` makes the next, `whole` from a frame in memory. `inventory` has the files of a
table that many append to.
"""
