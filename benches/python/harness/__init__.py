"""What all concepts share, in the order of a run.

1. `case.py`: what a question, a unit, an aim and somebody who answers are
2. `rounds.py`: whose turn it is, and what the readings say
3. `child.py`: one measurement in a process of its own, with a deadline
4. `measure.py`: what happens in that process
5. `load.py`: how much other programs disturbed it
6. `table.py`, `record.py`: what is printed, what is kept
"""
