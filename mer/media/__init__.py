"""Files to arrays with presentation times. `mer.media.prepare` is the one door: an `InputSpec` in, `Sampled` out.

Decoding happens in a child process (`guard`, `child`), which imports this room and therefore no torch: only `prepare` and
`spectrum` do.
"""
