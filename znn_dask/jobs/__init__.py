"""Jobs: trainings and predictions that run on a cluster without the process that submitted them.

A job is a folder; `records` says what is in it and `state` what that means. The keeper on the
scheduler (`keeper`) starts drivers on workers (`driver`), each of them an attempt (`attempt`).
"""
