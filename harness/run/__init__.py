"""One run and its folder: composed, identified, set up, carried out, resumed, finished once.

Read ``execute.py`` first, then ``phases.py`` (train, measure, evaluate) and ``identity.py`` (what
influences the numbers). ``compose.py`` makes a checked run of settings, ``checkpoints.py`` saves it,
``result.py`` writes its record, ``reuse.py`` takes over a training that another run has done, ``export.py``
writes the weights for others, ``tracking.py`` copies its log elsewhere. Imports ``train``, ``evaluation``
and what lies below.
"""
