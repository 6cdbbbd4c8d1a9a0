"""Tests that take minutes to hours, each a program of its own; ``make fuzz|hostile|rolling|soak``.

Not collected by pytest. Short versions of them are in the suite: ``tests/models/test_fuzz.py``,
``tests/service/api/test_hostile.py`` and ``tests/service/test_faults.py``.

    drawn_files.py      lesions in every accepted format
    mutations.py        files -> damaged files, with knowledge of the formats' structure
    fuzz_targets.py     what is fuzzed: the decoder, DICOM, the multipart parser
    fuzz.py             a mutated file in, a result or a clean refusal out, in watched processes
    arsenal.py          what hostile requests are made of
    hostile_uploads.py  hostile requests: what is uploaded
    hostile_http.py     hostile requests: how it is sent
    attacks.py          all kinds of them, and how often each is tried
    raw_socket.py       sends bytes over a socket, and reads what comes back
    good_requests.py    good requests, and what their answers must say
    hostile.py          both at once, against a live process
    crowd.py            clients that ask for one thing after another
    balancer.py         a load balancer that honours /readyz
    rolling.py          restarts behind it, and reloads, under load
    crash.py            kill -9 under load, with a supervisor that starts it again
    out_of_memory.py    a process that gets no more memory, under load
    greedy.py           what a client sends that takes more than its share
    fairness.py         how long another client waits meanwhile
    soak.py             half an hour at 80 % of the capacity
    process_usage.py    memory, open files, threads and processor time of another process
    report.py           tables and figures
"""
