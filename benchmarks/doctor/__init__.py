"""``irvis doctor``: what of all that irvis needs is on this machine, in which state, and the command that mends it.

Imports neither numpy nor OpenCV: it is of most use where those are missing, or end the process that imports them.
"""
