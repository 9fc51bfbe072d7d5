"""The predicates of `when`: one file for each, with its model and its compiled condition.

To add one, write a file with a `PREDICATE` and add its name to the table in `when.py`.
"""
