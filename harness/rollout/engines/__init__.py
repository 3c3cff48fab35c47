"""Whatever draws responses, behind one protocol: ``hf`` (built in) and ``vllm``.

Read ``base.py`` first (the protocol and what an engine says it can), then ``hf.py``. ``../engine_sampler.py``
puts an engine that follows the policy's weights into a run. vLLM is imported by ``vllm_engine.py`` alone.
"""
