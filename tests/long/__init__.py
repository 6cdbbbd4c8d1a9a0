"""Tests that take minutes to hours, each a program of its own; ``make fuzz|hostile|rolling|soak``.

Not collected by pytest. Short versions of them are in the suite: ``tests/models/test_fuzz.py``,
``tests/service/test_hostile.py`` and ``tests/service/test_faults.py``.

    drawn.py       lesions in every accepted format, and files that are nearly one
    mutations.py   files -> damaged files, with knowledge of the formats' structure
    fuzz.py        a mutated file in, a decoded image or a clean refusal out, in watched processes
    attacks.py     hostile requests, as bytes on a socket
    good.py        good requests, and what their answers must say
    hostile.py     both at once, against a live process
    soak.py        half an hour at 80 % of the capacity
    rolling.py     restarts and reloads under load, behind balancer.py
    crash.py       kill -9 under load, with a supervisor that starts it again
    vitals.py      memory, open files, threads and processor time of another process
"""
