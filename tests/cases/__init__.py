"""Raw requests and what fastserve must make of them: data, and two runners over it.

`data/` holds the cases, `rows.py` the rules they stand for. Run by `python -m tests.cases` and by the tests here.
"""
