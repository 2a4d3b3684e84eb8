"""The cases, one file for each class of trick. `..load` gathers them; `..case` says what a case is.

CASES of each file: the number of a rule in `..rows` to its cases.
"""
