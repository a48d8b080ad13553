"""The lake: versioned Delta tables; a version is committed in one step, or not at all.

`table` lists the versions there are, `manifest` checks the bytes of their files, `read` opens one
of them, `write` makes the next. `inventory` has the files of a table that many append to, such as
`prediction_log`. `column_types` and `row_hash` say what a value is, and which rows are equal.
"""
