"""Files that may come from elsewhere, and files that must stay: one way in, one way out.

    reading    bytes of a regular file, no more of them than the reader asked for
    json_text  JSON of those bytes, and JSON lines: plain data within bounds
    records    plain data of a stated form: names, types, bounds
    npz        arrays of stated names and types, their sizes known before anything is unpacked
    parquet    columns of stated names and types, likewise
    writing    a file that is there whole or not at all, after a power cut too; a full disk is reported as such

A run directory, a model or a trace may be damaged, of another version, or made by somebody who means harm.  Whoever
reads one goes through here (checked by ``tests/test_reading_door.py``) and gets what it asked for or an `InputError`
that names the file, the place in it and what to do.  No reader takes more than 1 GB, however small the file: the sizes
that a file declares are checked against the bounds before it is unpacked.
"""
