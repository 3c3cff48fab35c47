"""What answers a method's rollout program: who samples, by which engine, and what waits for its update.

Read ``collector.py`` first (it carries the program out), then ``sampler.py`` (built in, with a KV cache) and
``engines/`` (one protocol for whatever draws). ``queue.py`` keeps rollouts that wait, ``settings.py`` refuses
what does not fit together. Imports ``model``, ``registry``, ``stages`` and what lies below them.
"""
