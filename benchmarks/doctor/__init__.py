"""``irvis doctor``: what irvis needs, its state on this machine, and the command that fixes it.

Imports neither numpy nor OpenCV: it is most useful where those are missing, or crash the process that imports them.
"""
